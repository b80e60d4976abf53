//! How the weights of a model are cut into commitments: tiles of all tensors are stacked, and the stack is cut into pieces of `2^27` cells, of which the last is as small as it can be.

use crate::{
    mle::log2_ceil,
    params::{MAX_LOG, MIN_LOG},
    plan::{
        Weight,
        layout::{Layout, Tile},
    },
};

/// The stack and its pieces.
pub(crate) struct Shards {
    pub(crate) layout: Layout,
    /// `log2` of the cells of each piece.
    pub(crate) logs: Vec<usize>,
}

impl Shards {
    pub(crate) fn new(weights: &[Weight]) -> Self {
        let layout = Layout::new(weights.iter().map(|w| w.shape.clone()).collect(), MIN_LOG);
        let mut logs = Vec::new();
        let mut rest = layout.cells;
        while rest > 1 << MAX_LOG {
            logs.push(MAX_LOG);
            rest -= 1 << MAX_LOG;
        }
        if rest > 0 || logs.is_empty() {
            logs.push(log2_ceil(rest).max(MIN_LOG));
        }
        Self { layout, logs }
    }

    /// Offset of a tile in piece `shard`, if it lies there. Tiles are no larger than a piece (plans with larger ones are refused) and aligned, so none lies in two.
    pub(crate) fn offset(shard: usize, tile: &Tile) -> Option<usize> {
        (tile.offset >> MAX_LOG == shard).then_some(tile.offset & ((1 << MAX_LOG) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Part;

    #[test]
    fn a_stack_is_cut_into_whole_tiles() {
        let weight = |rows, cols| Weight {
            constant: 0,
            part: Part::Values,
            shape: vec![rows, cols],
        };
        let shards = Shards::new(&[weight(49152, 2731), weight(300, 7)]);
        let cells: usize = 49152 * 2731 + 2100;
        assert_eq!(shards.logs[0], MAX_LOG);
        assert_eq!(shards.logs.len(), cells.div_ceil(1 << MAX_LOG));
        for tile in &shards.layout.tiles {
            let places: Vec<_> = (0..shards.logs.len())
                .filter_map(|s| Shards::offset(s, tile).map(|o| (s, o)))
                .collect();
            assert_eq!(places.len(), 1);
            let (shard, offset) = places[0];
            assert!(offset + (1 << tile.log) <= 1 << shards.logs[shard]);
        }
    }
}
