//! Weights of a decoder, still in the storage of the file they come from.

use std::{collections::HashSet, sync::Arc};

use super::{
    architecture::{Names, Pairing},
    config::Config,
};
use crate::{
    error::ImportError,
    gguf::{Gguf, Groups, TensorType},
};

/// Bytes of a file, shared.
pub type Shared = Arc<Vec<u8>>;

/// A matrix in its file's storage; rows are moved into the order of the graph when they are read.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Name in the file.
    pub name: String,
    /// Output channels.
    pub rows: usize,
    /// Input channels.
    pub cols: usize,
    /// Storage.
    pub ty: TensorType,
    file: Shared,
    start: usize,
    /// Half of a head's width, for query and key weights with adjacent pairs.
    adjacent: Option<usize>,
}

impl Matrix {
    /// Bytes of a row.
    fn row_len(&self) -> usize {
        let (block, bytes) = self.ty.block();
        self.cols / block as usize * bytes as usize
    }

    /// Canonical bytes of row `r` in the order of the graph; empty when there is none.
    pub fn row_bytes(&self, r: usize) -> &[u8] {
        let row = self.adjacent.map_or(r, |half| source_row(r, half));
        let (len, end) = (self.row_len(), self.rows);
        let start = self.start + row * len;
        self.file
            .get(start..start + len)
            .filter(|_| row < end)
            .unwrap_or_default()
    }

    /// Rows `from..to` in f32, row-major.
    ///
    /// # Errors
    /// [`ImportError::NotFinite`].
    pub fn floats(&self, from: usize, to: usize) -> Result<Vec<f32>, ImportError> {
        let to = to.min(self.rows);
        let mut out = Vec::with_capacity(to.saturating_sub(from) * self.cols);
        for r in from..to {
            self.ty
                .dequantise(&self.name, self.row_bytes(r), &mut out)?;
        }
        Ok(out)
    }

    /// All values in f32.
    ///
    /// # Errors
    /// [`ImportError::NotFinite`].
    pub fn all(&self) -> Result<Vec<f32>, ImportError> {
        self.floats(0, self.rows)
    }

    /// Codes, steps and offsets of a row of a block format; empty for float storage.
    pub fn groups(&self, r: usize) -> Groups {
        let mut groups = Groups::default();
        self.ty.groups(self.row_bytes(r), &mut groups);
        groups
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> usize {
        self.rows * self.row_len()
    }
}

/// Row of a file with adjacent pairs that is row `r` of one with halves.
const fn source_row(r: usize, half: usize) -> usize {
    let (head, within) = (r / (2 * half), r % (2 * half));
    head * 2 * half + 2 * (within % half) + within / half
}

/// A linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[rows, cols]`.
    pub weight: Matrix,
    /// One a row, or empty.
    pub bias: Vec<f32>,
}

/// One layer.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the parts of a decoder layer, in order")]
pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    pub feed_norm: Vec<f32>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// A decoder's weights.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Sizes.
    pub config: Config,
    /// `[vocabulary, width]`.
    pub embedding: Matrix,
    /// `[vocabulary, width]`; `None` when it is the embedding.
    pub head: Option<Matrix>,
    /// Gains of the last norm.
    pub final_norm: Vec<f32>,
    /// Layers in order.
    pub layers: Vec<Layer>,
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub dims: Vec<usize>,
    pub ty: TensorType,
    pub file: Shared,
    pub start: usize,
}

/// Finds a tensor by name.
pub(super) type Find<'a> = Box<dyn Fn(&str) -> Option<Place> + 'a>;

/// Hands out tensors by name and remembers which.
pub(super) struct Shelf<'a> {
    pub names: Names,
    pub pairing: Pairing,
    pub find: Find<'a>,
    pub taken: HashSet<String>,
}

impl Shelf<'_> {
    fn place(&mut self, name: &str, dims: &[usize]) -> Result<Place, ImportError> {
        let place = (self.find)(name).ok_or_else(|| ImportError::Missing {
            what: "tensor",
            name: name.to_owned(),
        })?;
        if place.dims != dims {
            return Err(ImportError::malformed(
                format!("tensor `{name}`"),
                format!("shape is {:?}, {dims:?} wanted", place.dims),
            ));
        }
        self.taken.insert(name.to_owned());
        Ok(place)
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, ImportError> {
        let name = format!("{name}.weight");
        let place = self.place(&name, &[rows, cols])?;
        Ok(Matrix {
            name,
            rows,
            cols,
            ty: place.ty,
            file: place.file,
            start: place.start,
            adjacent: None,
        })
    }

    fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>, ImportError> {
        let place = self.place(name, &[n])?;
        let (block, bytes) = place.ty.block();
        let len = n / block as usize * bytes as usize;
        let data = place.file.get(place.start..place.start + len);
        let mut out = Vec::with_capacity(n);
        place
            .ty
            .dequantise(name, data.unwrap_or_default(), &mut out)?;
        Ok(out)
    }

    fn linear(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        head_size: Option<usize>,
    ) -> Result<Linear, ImportError> {
        let mut weight = self.matrix(name, rows, cols)?;
        let bias = format!("{name}.bias");
        let mut bias = if (self.find)(&bias).is_some() {
            self.vector(&bias, rows)?
        } else {
            Vec::new()
        };
        if let (Some(d), Pairing::Adjacent) = (head_size, self.pairing) {
            weight.adjacent = Some(d / 2);
            let moved = |r: usize| bias.get(source_row(r, d / 2)).copied();
            bias = (0..bias.len()).filter_map(moved).collect();
        }
        Ok(Linear { weight, bias })
    }

    pub fn weights(&mut self, config: Config) -> Result<Weights, ImportError> {
        let (n, d) = (self.names, config.head_size);
        let (width, feed) = (config.width, config.feed);
        let (joined, kv) = (config.heads * d, config.kv_width());
        let mut layers = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let name = |pattern: &str| pattern.replace("{}", &i.to_string());
            let norm = |pattern: &str| format!("{}.weight", name(pattern));
            layers.push(Layer {
                attention_norm: self.vector(&norm(n.attention_norm), width)?,
                query: self.linear(&name(n.query), joined, width, Some(d))?,
                key: self.linear(&name(n.key), kv, width, Some(d))?,
                value: self.linear(&name(n.value), kv, width, None)?,
                output: self.linear(&name(n.output), width, joined, None)?,
                feed_norm: self.vector(&norm(n.feed_norm), width)?,
                gate: self.linear(&name(n.gate), feed, width, None)?,
                up: self.linear(&name(n.up), feed, width, None)?,
                down: self.linear(&name(n.down), width, feed, None)?,
            });
        }
        let embedding = self.matrix(n.embedding, config.vocabulary, width)?;
        let head = if (self.find)(&format!("{}.weight", n.head)).is_some() {
            Some(self.matrix(n.head, config.vocabulary, width)?)
        } else {
            None
        };
        Ok(Weights {
            embedding,
            head,
            final_norm: self.vector(&format!("{}.weight", n.final_norm), width)?,
            layers,
            config,
        })
    }
}

impl Weights {
    /// The weights of a GGUF file.
    ///
    /// # Errors
    /// Those of [`Config::from_gguf`]; [`ImportError::Missing`] for absent tensors, [`ImportError::Malformed`] for wrong shapes, [`ImportError::Unsupported`] for tensors that
    /// the architecture does not have: nothing of a model is left out silently.
    pub fn from_gguf(gguf: &Gguf, file: &Shared) -> Result<Self, ImportError> {
        let config = Config::from_gguf(gguf)?;
        let architecture = config.architecture;
        let find = |name: &str| {
            let t = gguf.tensor(name)?;
            Some(Place {
                dims: t.dims.iter().map(|d| *d as usize).collect(),
                ty: t.ty,
                file: Arc::clone(file),
                start: t.start as usize,
            })
        };
        let mut shelf = Shelf {
            names: architecture.gguf_names,
            pairing: architecture.gguf_pairing,
            find: Box::new(find),
            taken: HashSet::new(),
        };
        let weights = shelf.weights(config)?;
        nothing_left(
            gguf.tensors().map(|t| t.name.as_str()),
            &shelf.taken,
            architecture.ignored,
        )?;
        Ok(weights)
    }

    /// Storage types of the layers' matrices with their share of the weights, most first, for people.
    pub fn quantisation(&self) -> String {
        let mut shares: Vec<(TensorType, usize)> = Vec::new();
        let mut total = 0usize;
        for m in self.matrices() {
            let n = m.rows * m.cols;
            total += n;
            match shares.iter_mut().find(|(ty, _)| *ty == m.ty) {
                Some((_, sum)) => *sum += n,
                None => shares.push((m.ty, n)),
            }
        }
        shares.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let share = |n: usize| (100 * n + total / 2) / total.max(1);
        let parts: Vec<String> = shares
            .iter()
            .map(|(ty, n)| format!("{ty:?} {} %", share(*n)))
            .collect();
        parts.join(", ")
    }

    /// All matrices.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self.layers.iter().flat_map(|l| {
            [
                &l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down,
            ]
            .map(|l| &l.weight)
        });
        std::iter::once(&self.embedding)
            .chain(self.head.as_ref())
            .chain(layers)
    }
}

/// Refuses tensors that nobody took: they would change what the model computes.
pub(super) fn nothing_left<'a>(
    names: impl Iterator<Item = &'a str>,
    taken: &HashSet<String>,
    ignored: &[&str],
) -> Result<(), ImportError> {
    let mut left: Vec<&str> = names
        .filter(|n| !taken.contains(*n) && !ignored.iter().any(|i| n.contains(i)))
        .collect();
    left.sort_unstable();
    match left.first() {
        None => Ok(()),
        Some(first) => Err(ImportError::Unsupported {
            op: "tensor".into(),
            node: (*first).to_owned(),
            why: format!("{} tensors are not part of the architecture", left.len()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_pairs_become_halves() {
        // a head of width 6: halves (0, 3), (1, 4), (2, 5) are rows (0, 1), (2, 3), (4, 5) of the file
        let moved: Vec<usize> = (0..12).map(|r| source_row(r, 3)).collect();
        assert_eq!(moved, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
