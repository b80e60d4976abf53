//! Hugging Face folders: config.json, safetensors (one file, or shards with an index), tokenizer files.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    sync::Arc,
};

use safetensors::{Dtype, SafeTensors};

use super::{
    architecture::Pairing,
    config::Config,
    source::{Place, Shared, Shelf, Weights, nothing_left},
    text::TextParts,
};
use crate::{error::ImportError, gguf::TensorType, manifest::SourceFile, report::sha256_hex};

/// Largest shard read, bytes.
const MAX_SHARD: u64 = 64 << 30;
/// Largest JSON file read, bytes.
const MAX_JSON: u64 = 64 << 20;
/// Most shards.
const MAX_SHARDS: u64 = 512;

/// A folder that was read.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Weights.
    pub weights: Weights,
    /// Tokenizer and template.
    pub text: TextParts,
    /// Files used.
    pub sources: Vec<SourceFile>,
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ImportError> {
    let size = fs::metadata(path).map_err(ImportError::io(path))?.len();
    ImportError::check(&format!("bytes of {}", path.display()), size, limit)?;
    fs::read(path).map_err(ImportError::io(path))
}

fn optional(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, ImportError> {
    let path = folder.join(name);
    if path.is_file() {
        read(&path, MAX_JSON).map(Some)
    } else {
        Ok(None)
    }
}

fn element_type(name: &str, dtype: Dtype) -> Result<TensorType, ImportError> {
    Ok(match dtype {
        Dtype::F32 => TensorType::F32,
        Dtype::F16 => TensorType::F16,
        Dtype::BF16 => TensorType::BF16,
        other => {
            return Err(ImportError::Unsupported {
                op: format!("{other:?}"),
                node: name.to_owned(),
                why: "F32, F16 and BF16 are read".into(),
            });
        }
    })
}

/// File names of the shards, each once, in order.
fn shards(folder: &Path) -> Result<Vec<String>, ImportError> {
    let Some(index) = optional(folder, "model.safetensors.index.json")? else {
        return Ok(vec!["model.safetensors".to_owned()]);
    };
    let bad = |why: String| ImportError::malformed("model.safetensors.index.json", why);
    let json: serde_json::Value = serde_json::from_slice(&index).map_err(|e| bad(e.to_string()))?;
    let map = json
        .get("weight_map")
        .and_then(serde_json::Value::as_object)
        .ok_or_else(|| bad("`weight_map` is missing".into()))?;
    let mut names: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for file in map.values() {
        let file = file
            .as_str()
            .filter(|f| !f.contains(['/', '\\']) && !f.starts_with('.'))
            .ok_or_else(|| bad(format!("{file} is no file name")))?;
        if seen.insert(file) {
            names.push(file.to_owned());
        }
        ImportError::check("shards", names.len() as u64, MAX_SHARDS)?;
    }
    names.sort_unstable();
    Ok(names)
}

impl Folder {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`ImportError::Io`], [`ImportError::Limit`]; those of [`Config::from_json`], [`TextParts::from_files`]; [`ImportError::Malformed`] for broken or repeated tensors.
    pub fn read(folder: &Path) -> Result<Self, ImportError> {
        let config_json = read(&folder.join("config.json"), MAX_JSON)?;
        let config = Config::from_json(&config_json)?;
        let tokenizer = read(&folder.join("tokenizer.json"), MAX_JSON)?;
        let text = TextParts::from_files(
            &tokenizer,
            optional(folder, "tokenizer_config.json")?.as_deref(),
            optional(folder, "generation_config.json")?.as_deref(),
            optional(folder, "chat_template.jinja")?.as_deref(),
        )?;
        let mut sources = vec![
            source("config.json", &config_json),
            source("tokenizer.json", &tokenizer),
        ];
        let mut tensors: HashMap<String, Place> = HashMap::new();
        for name in shards(folder)? {
            let file: Shared = Arc::new(read(&folder.join(&name), MAX_SHARD)?);
            sources.push(source(&name, &file));
            for (tensor, place) in directory(&name, &file)? {
                if tensors.insert(tensor.clone(), place).is_some() {
                    let why = format!("tensor `{tensor}` is in two shards");
                    return Err(ImportError::malformed(name, why));
                }
            }
        }
        let architecture = config.architecture;
        let json: serde_json::Value =
            serde_json::from_slice(&config_json).unwrap_or(serde_json::Value::Null);
        let head = format!("{}.weight", architecture.folder_names.head);
        if json
            .get("tie_word_embeddings")
            .and_then(serde_json::Value::as_bool)
            == Some(true)
        {
            // a copy of the embedding
            tensors.remove(&head);
        }
        let mut shelf = Shelf {
            names: architecture.folder_names,
            pairing: Pairing::Halves,
            find: Box::new(|name: &str| tensors.get(name).cloned()),
            taken: HashSet::new(),
        };
        let weights = shelf.weights(config)?;
        let taken = std::mem::take(&mut shelf.taken);
        drop(shelf);
        nothing_left(
            tensors.keys().map(String::as_str),
            &taken,
            architecture.ignored,
        )?;
        Ok(Self {
            weights,
            text,
            sources,
        })
    }
}

/// Name, size and hash of a file.
pub(super) fn source(name: &str, bytes: &[u8]) -> SourceFile {
    SourceFile {
        name: name.to_owned(),
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes),
    }
}

/// Places of all tensors of a safetensors file.
fn directory(name: &str, file: &Shared) -> Result<Vec<(String, Place)>, ImportError> {
    let bad = |e: safetensors::SafeTensorError| ImportError::malformed(name, e.to_string());
    // checks that the tensors fill the file without holes or overlaps
    SafeTensors::deserialize(file).map_err(bad)?;
    let (header, metadata) = SafeTensors::read_metadata(file).map_err(bad)?;
    let mut places = Vec::new();
    for (tensor, info) in metadata.tensors() {
        if info.dtype == Dtype::I64 || info.shape.is_empty() {
            continue;
        }
        let place = Place {
            dims: info.shape.clone(),
            ty: element_type(&tensor, info.dtype)?,
            file: Arc::clone(file),
            start: 8 + header + info.data_offsets.0,
        };
        places.push((tensor, place));
    }
    Ok(places)
}
