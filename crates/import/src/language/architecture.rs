//! Decoder architectures: a table of names. A model whose layers are norm, grouped attention with rotary positions, norm, gated feed-forward is a row here, not a new code path.

/// How a file orders the rows of query and key weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Rows i and i + d/2 of a head are turned together: the order of the graph.
    Halves,
    /// Rows 2i and 2i + 1 are turned together; import moves them.
    Adjacent,
}

/// Names of a layer's and of the model's own tensors, without `.weight` or `.bias`; `{}` is the number of the layer.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each field is the part of that name")]
pub struct Names {
    pub embedding: &'static str,
    pub head: &'static str,
    pub final_norm: &'static str,
    pub attention_norm: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub output: &'static str,
    pub feed_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}

/// One architecture.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// `general.architecture` of a GGUF file; its metadata keys begin with it.
    pub gguf: &'static str,
    /// `model_type` of config.json.
    pub model_type: &'static str,
    /// Tensor names in GGUF.
    pub gguf_names: Names,
    /// Tensor names in safetensors.
    pub folder_names: Names,
    /// Order of query and key rows in GGUF; safetensors have halves.
    pub gguf_pairing: Pairing,
    /// Tensors of a file that carry nothing: names contain one of these.
    pub ignored: &'static [&'static str],
}

const GGML: Names = Names {
    embedding: "token_embd",
    head: "output",
    final_norm: "output_norm",
    attention_norm: "blk.{}.attn_norm",
    query: "blk.{}.attn_q",
    key: "blk.{}.attn_k",
    value: "blk.{}.attn_v",
    output: "blk.{}.attn_output",
    feed_norm: "blk.{}.ffn_norm",
    gate: "blk.{}.ffn_gate",
    up: "blk.{}.ffn_up",
    down: "blk.{}.ffn_down",
};

const TRANSFORMERS: Names = Names {
    embedding: "model.embed_tokens",
    head: "lm_head",
    final_norm: "model.norm",
    attention_norm: "model.layers.{}.input_layernorm",
    query: "model.layers.{}.self_attn.q_proj",
    key: "model.layers.{}.self_attn.k_proj",
    value: "model.layers.{}.self_attn.v_proj",
    output: "model.layers.{}.self_attn.o_proj",
    feed_norm: "model.layers.{}.post_attention_layernorm",
    gate: "model.layers.{}.mlp.gate_proj",
    up: "model.layers.{}.mlp.up_proj",
    down: "model.layers.{}.mlp.down_proj",
};

/// All architectures.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        gguf: "llama",
        model_type: "llama",
        gguf_names: GGML,
        folder_names: TRANSFORMERS,
        gguf_pairing: Pairing::Adjacent,
        ignored: &["rotary_emb.inv_freq"],
    },
    Architecture {
        gguf: "qwen2",
        model_type: "qwen2",
        gguf_names: GGML,
        folder_names: TRANSFORMERS,
        gguf_pairing: Pairing::Halves,
        ignored: &["rotary_emb.inv_freq"],
    },
];

/// Names of all architectures, for messages.
pub fn known() -> String {
    let names: Vec<&str> = ARCHITECTURES.iter().map(|a| a.gguf).collect();
    names.join(", ")
}
