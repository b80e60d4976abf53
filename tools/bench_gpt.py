#!/usr/bin/env python3
"""Writes a decoder-only transformer with random weights as ONNX, for the cost of import, engine and proof: it says nothing sensible.

    bench_gpt.py OUT.onnx [--layers 4] [--width 72] [--heads 4] [--positions 64] [--vocabulary 65] [--seed 1]

Pre-norm blocks, MLP of four times the width with x * sigmoid(1.702 x), additive causal mask of -8, linear head. The input is the embedded sequence [1, positions, width]; OUT.input.json holds one, drawn from N(0, 1).
With the defaults the model has the size that is published as "nanoGPT 0.25M". Needs numpy and onnx.
"""
import argparse
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """Nodes in order of construction; names are numbered."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.parameters = [], [], 0

    def const(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def linear(self, x, n, m):
        weight = self.rng.standard_normal((n, m)) * np.sqrt(1 / n)
        bias = self.rng.standard_normal(m) * 0.05
        self.parameters += n * m + m
        return self.node("Add", self.node("MatMul", x, self.const(weight)), self.const(bias))

    def norm(self, x, n):
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes=[-1], keepdims=1))
        square = self.node("Mul", centred, centred)
        variance = self.node("ReduceMean", square, axes=[-1], keepdims=1)
        root = self.node("Sqrt", self.node("Add", variance, self.const([1e-2])))
        self.parameters += 2 * n
        scaled = self.node("Mul", self.node("Div", centred, root), self.const(np.ones(n)))
        return self.node("Add", scaled, self.const(np.full(n, 0.01)))

    def heads(self, x, positions, heads, width):
        shape = self.const([1, positions, heads, width // heads], np.int64)
        return self.node("Transpose", self.node("Reshape", x, shape), perm=[0, 2, 1, 3])

    def attention(self, x, positions, heads, width):
        q, k, v = (self.heads(self.linear(x, width, width), positions, heads, width) for _ in range(3))
        scores = self.node("MatMul", q, self.node("Transpose", k, perm=[0, 1, 3, 2]))
        scaled = self.node("Mul", scores, self.const(np.sqrt(heads / width)))
        masked = self.node("Add", scaled, self.const(np.triu(np.full((positions, positions), -8.0), 1)))
        mixed = self.node("MatMul", self.node("Softmax", masked, axis=-1), v)
        joined = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        flat = self.node("Reshape", joined, self.const([1, positions, width], np.int64))
        return self.linear(flat, width, width)

    def mlp(self, x, width):
        up = self.linear(x, width, 4 * width)
        gate = self.node("Sigmoid", self.node("Mul", up, self.const([1.702])))
        return self.linear(self.node("Mul", up, gate), 4 * width, width)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name, default in [("layers", 4), ("width", 72), ("heads", 4), ("positions", 64), ("vocabulary", 65), ("seed", 1)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    net = Network(a.seed)
    x = "x"
    for _ in range(a.layers):
        x = net.node("Add", x, net.attention(net.norm(x, a.width), a.positions, a.heads, a.width))
        x = net.node("Add", x, net.mlp(net.norm(x, a.width), a.width))
    y = net.linear(net.norm(x, a.width), a.width, a.vocabulary)
    shape = [1, a.positions]
    graph = helper.make_graph(
        net.nodes,
        "gpt",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*shape, a.width])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [*shape, a.vocabulary])],
        net.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, a.out)
    sample = net.rng.standard_normal(a.positions * a.width).round(5).tolist()
    with open(a.out.removesuffix(".onnx") + ".input.json", "w") as f:
        json.dump({"input_data": [sample]}, f)
    print(f"{net.parameters} parameters, {a.positions} positions")


main()
