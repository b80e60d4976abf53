//! Token masks of constrained answers: where they come from, and how a job keeps them.

use std::collections::HashMap;

use alloy_primitives::Bytes;
use serde::{Deserialize, Serialize};

/// The masks of one answer, token by token.
pub trait MaskSource: Send {
    /// Bitmap of the tokens allowed next: bit v mod 8 of byte v / 8, `⌈vocabulary/8⌉` bytes.
    ///
    /// # Errors
    /// A sentence, when nothing may follow or the grammar can't go on.
    fn mask(&mut self) -> Result<Vec<u8>, String>;

    /// Goes on by the token that was chosen.
    ///
    /// # Errors
    /// A sentence, when the token is not allowed.
    fn accept(&mut self, token: u32) -> Result<(), String>;
}

/// Makes mask sources for one model's vocabulary; the same grammar and tokens always give the same masks.
pub trait Grammars: Send + Sync {
    /// A source for canonical grammar bytes.
    ///
    /// # Errors
    /// A sentence for the requester: the bytes are no grammar, or one that can't be satisfied.
    fn source(&self, grammar: &[u8]) -> Result<Box<dyn MaskSource>, String>;
}

/// Masks of an answer in order; equal ones are kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masks {
    kinds: Vec<Bytes>,
    order: Vec<u32>,
}

impl Masks {
    /// Packs the masks of an answer.
    pub fn new(masks: &[Vec<u8>]) -> Self {
        let mut known: HashMap<&[u8], u32> = HashMap::new();
        let mut packed = Self::default();
        for mask in masks {
            let next = packed.kinds.len() as u32;
            let index = *known.entry(mask).or_insert(next);
            if index == next {
                packed.kinds.push(Bytes::copy_from_slice(mask));
            }
            packed.order.push(index);
        }
        packed
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The masks in order, or `None` when one is missing or they would take more than `limit` bytes.
    pub fn unpack(&self, limit: usize) -> Option<Vec<Vec<u8>>> {
        let mut total = 0usize;
        let one = |index: &u32| {
            let mask = self.kinds.get(usize::try_from(*index).ok()?)?;
            total = total.checked_add(mask.len())?;
            (total <= limit).then(|| mask.to_vec())
        };
        self.order.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Masks;

    #[test]
    fn equal_masks_are_kept_once() {
        let masks = vec![vec![1u8, 2], vec![3, 4], vec![1, 2], vec![1, 2]];
        let packed = Masks::new(&masks);
        assert_eq!(packed.kinds.len(), 2);
        assert_eq!(packed.unpack(8), Some(masks));
        assert_eq!(packed.unpack(7), None);
        let text = serde_json::to_string(&packed).unwrap();
        assert_eq!(serde_json::from_str::<Masks>(&text).unwrap(), packed);
        let broken = text.replace("[0,1,0,0]", "[0,1,0,9]");
        let broken: Masks = serde_json::from_str(&broken).unwrap();
        assert_eq!(broken.unpack(100), None);
        assert!(Masks::new(&[]).is_empty());
    }
}
