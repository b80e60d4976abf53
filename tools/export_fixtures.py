#!/usr/bin/env python3
"""Exports small networks from PyTorch, scikit-learn and Keras to ONNX, with inputs and onnxruntime outputs.

usage: export_fixtures.py {torch|sklearn|keras} OUT_DIR

Each fixture is NAME.onnx and NAME.json {"range": [lo, hi], "inputs": [[...]], "outputs": [[...]], "output": name, "made_with": ...}; arrays are
flattened row-major as the file has them. Seeds are fixed; another version of an exporter may write other bytes, which is why the files are checked in.
torch: needs torch, onnx, onnxruntime; sklearn: scikit-learn, skl2onnx, onnxruntime; keras: tensorflow-cpu, tf2onnx, onnxruntime.
"""
import json
import os
import sys

import numpy as np
import onnxruntime as ort

SAMPLES = 8


def save(out, name, inputs, value_range, made_with, output=None):
    path = os.path.join(out, f"{name}.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    s = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = s.get_inputs()[0].name
    output = output or s.get_outputs()[0].name
    others = {i.name: np.zeros([1 if isinstance(d, str) else d for d in i.shape], np.int64) for i in s.get_inputs()[1:]}
    outputs = [s.run([output], {feed: x, **others})[0] for x in inputs]
    digits = lambda a: [round(float(v), 6) for v in np.asarray(a, np.float64).ravel()]
    with open(os.path.join(out, f"{name}.json"), "w") as f:
        json.dump({"made_with": made_with, "range": value_range, "output": output, "inputs": [digits(x) for x in inputs], "outputs": [digits(y) for y in outputs]}, f)
    print(name, os.path.getsize(path), "bytes")


def rounded(a):
    return np.round(a.astype(np.float64), 6).astype(np.float32)


def torch_fixtures(out):
    import torch
    import torch.nn as nn

    torch.manual_seed(11)
    rng = np.random.default_rng(11)
    made = f"torch {torch.__version__}"

    class Block(nn.Module):
        """Inverted residual: depth-wise convolution, batch norm, hard swish."""

        def __init__(self):
            super().__init__()
            self.a, self.an = nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24)
            self.b, self.bn = nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24)
            self.c, self.cn = nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8)

        def forward(self, x):
            y = nn.functional.hardswish(self.an(self.a(x)))
            y = nn.functional.relu6(self.bn(self.b(y)))
            return x + self.cn(self.c(y))

    class Cnn(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.SiLU()), Block()
            self.pool, self.last = nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 16, 3, dilation=2)
            self.head = nn.Linear(16, 5)

        def forward(self, x):
            x = nn.functional.leaky_relu(self.last(self.pool(self.block(self.stem(x)))), 0.1)
            return torch.sigmoid(self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))

    class Encoder(nn.Module):
        """Token ids to class scores: embedding, positions, two post-norm layers, first token, head."""

        def __init__(self, vocabulary=50, d=32, heads=4, seq=12):
            super().__init__()
            self.d, self.heads = d, heads
            self.words, self.positions = nn.Embedding(vocabulary, d), nn.Parameter(torch.randn(seq, d) * 0.3)
            self.norm = nn.LayerNorm(d)
            make = lambda: nn.ModuleDict({"qkv": nn.Linear(d, 3 * d), "o": nn.Linear(d, d), "n1": nn.LayerNorm(d), "f1": nn.Linear(d, 4 * d), "f2": nn.Linear(4 * d, d), "n2": nn.LayerNorm(d)})
            self.layers = nn.ModuleList([make() for _ in range(2)])
            self.head = nn.Linear(d, 4)

        def forward(self, ids):
            x = self.norm(self.words(ids) + self.positions)
            b, s, d = x.shape
            for m in self.layers:
                q, k, v = m["qkv"](x).reshape(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
                w = torch.softmax(q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5, dim=-1)
                x = m["n1"](x + m["o"]((w @ v).transpose(1, 2).reshape(b, s, d)))
                x = m["n2"](x + m["f2"](nn.functional.gelu(m["f1"](x))))
            return self.head(torch.tanh(x[:, 0]))

    class Sequence(nn.Module):
        """One-dimensional convolutions over 6 channels x 40 samples, mean over time, causal average pool with padding."""

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv1d(6, 12, 5, padding=2), nn.Conv1d(12, 12, 3, stride=2, groups=3)
            self.pool, self.head = nn.AvgPool1d(2, 2, 1), nn.Linear(12, 3)

        def forward(self, x):
            x = self.pool(nn.functional.elu(self.a(x)))
            return self.head(nn.functional.softplus(self.b(x)).mean(-1))

    def export(name, net, inputs, value_range, opset, dynamic=False):
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.3), m.running_var.uniform_(0.5, 2), m.weight.data.uniform_(0.5, 1.5), m.bias.data.normal_(0, 0.2)
        net.eval()
        x = torch.from_numpy(inputs[0])
        axes = {"input": {0: "batch"}} if dynamic else None
        torch.onnx.export(net, (x,), os.path.join(out, f"{name}.onnx"), opset_version=opset, input_names=["input"], output_names=["output"], dynamo=False, dynamic_axes=axes)
        save(out, name, inputs, value_range, made)

    images = [rounded(rng.uniform(0, 1, (1, 3, 20, 20))) for _ in range(SAMPLES)]
    export("torch_cnn", Cnn(), images, [0, 1], 17, dynamic=True)
    export("torch_cnn_opset11", Cnn(), images, [0, 1], 11)
    ids = [rng.integers(0, 50, (1, 12)) for _ in range(SAMPLES)]
    export("torch_encoder", Encoder(), ids, [0, 49], 17)
    export("torch_encoder_opset14", Encoder(), ids, [0, 49], 14, dynamic=True)
    export("torch_sequence", Sequence(), [rounded(rng.normal(0, 1, (1, 6, 40)).clip(-4, 4)) for _ in range(SAMPLES)], [-4, 4], 18)


def sklearn_fixtures(out):
    import sklearn
    from sklearn.datasets import load_breast_cancer, load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    made = f"scikit-learn {sklearn.__version__}"
    cancer, iris = load_breast_cancer(), load_iris()
    # columns of very different size share one input range: bring them to a common one first, as an application would
    squash = lambda x: rounded((x - x.mean(0)) / x.std(0)).clip(-6, 6)
    jobs = [
        ("sklearn_mlp", MLPClassifier((16, 8), random_state=3, max_iter=600), squash(cancer.data), cancer.target),
        ("sklearn_pipeline", make_pipeline(StandardScaler(), MLPClassifier((12,), activation="tanh", random_state=3, max_iter=900)), rounded(iris.data), iris.target),
        ("sklearn_logistic", LogisticRegression(max_iter=2000), squash(cancer.data), cancer.target),
        ("sklearn_multinomial", make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)), rounded(iris.data), iris.target),
        ("sklearn_regressor", MLPRegressor(hidden_layer_sizes=(10,), activation="logistic", random_state=3, max_iter=2000), squash(cancer.data), cancer.target.astype(float)),
    ]
    for name, model, x, y in jobs:
        model.fit(x, y)
        options = {} if "regressor" in name else {"options": {id(model): {"zipmap": False}}}
        onx = convert_sklearn(model, initial_types=[("X", FloatTensorType([None, x.shape[1]]))], target_opset=17, **options)
        with open(os.path.join(out, f"{name}.onnx"), "wb") as f:
            f.write(onx.SerializeToString())
        picks = [x[i : i + 1] for i in range(0, len(x), max(1, len(x) // 16))][:16]
        save(out, name, picks, [float(np.floor(x.min())), float(np.ceil(x.max()))], made, output=None if "regressor" in name else "probabilities")


def keras_fixtures(out):
    import tensorflow as tf
    import tf2onnx

    tf.keras.utils.set_random_seed(5)
    rng = np.random.default_rng(5)
    layers = tf.keras.layers
    normal = tf.keras.initializers.RandomNormal(0.5, 0.3, seed=9)
    cnn_in = layers.Input((16, 16, 3), batch_size=1, name="input")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(cnn_in)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Activation("swish")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(12, activation="relu")(x)
    cnn = tf.keras.Model(cnn_in, layers.Dense(4, activation="softmax")(x))
    mlp_in = layers.Input((10,), batch_size=1, name="input")
    y = layers.Dense(16, activation="swish", bias_initializer=normal)(mlp_in)
    y = layers.LayerNormalization(beta_initializer=normal, gamma_initializer=normal)(y)
    mlp = tf.keras.Model(mlp_in, layers.Dense(3)(y))
    for name, model, shape, lo, hi in (("keras_cnn", cnn, (1, 16, 16, 3), 0, 1), ("keras_mlp", mlp, (1, 10), -3, 3)):
        spec = (tf.TensorSpec(shape, tf.float32, name="input"),)
        fn = tf.function(lambda input, model=model: model(input, training=False), input_signature=spec)
        tf2onnx.convert.from_function(fn, input_signature=spec, opset=15, output_path=os.path.join(out, f"{name}.onnx"))
        save(out, name, [rounded(rng.uniform(lo, hi, shape)) for _ in range(SAMPLES)], [lo, hi], f"tensorflow {tf.__version__}, tf2onnx {tf2onnx.__version__}")


if __name__ == "__main__":
    os.makedirs(sys.argv[2], exist_ok=True)
    {"torch": torch_fixtures, "sklearn": sklearn_fixtures, "keras": keras_fixtures}[sys.argv[1]](sys.argv[2])
