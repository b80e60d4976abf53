//! Where cells lie: every axis is cut into powers of two, largest first, so that a tensor becomes tiles that need no padding, and tiles are stacked by falling size.
//!
//! 768 = 512 + 256, so a `[768, 10]` tensor is four tiles: 512 × 8, 512 × 2, 256 × 8, 256 × 2. A tile of `2^k` cells lies at a multiple of `2^k`: its cells are the ones whose high index bits are the tile's,
//! and its low bits are the indices along its axes, last axis lowest.

use crate::mle::log2_ceil;

/// A part of an axis: `start .. start + 2^log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) log: usize,
}

/// A power-of-two box of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Which tensor.
    pub(crate) tensor: usize,
    /// One segment for each axis.
    pub(crate) segments: Vec<Segment>,
    /// `log2` of its cells.
    pub(crate) log: usize,
    /// First cell in the stack.
    pub(crate) offset: usize,
}

/// Tiles of several tensors in one vector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// By falling size.
    pub(crate) tiles: Vec<Tile>,
    /// Indices into `tiles` of each tensor.
    pub(crate) of_tensor: Vec<Vec<usize>>,
    /// Shape of each tensor.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// Cells used.
    pub(crate) cells: usize,
    /// `log2` of the vector's length.
    pub(crate) log: usize,
}

/// `n` as falling powers of two.
pub(crate) fn segments(n: usize) -> Vec<Segment> {
    let mut start = 0;
    (0..usize::BITS as usize)
        .rev()
        .filter(|b| n >> b & 1 == 1)
        .map(|log| {
            let s = Segment { start, log };
            start += 1 << log;
            s
        })
        .collect()
}

fn boxes(shape: &[usize]) -> Vec<Vec<Segment>> {
    shape.iter().fold(vec![Vec::new()], |all, n| {
        let parts = segments(*n);
        all.iter()
            .flat_map(|done| {
                parts.iter().map(move |s| {
                    let mut next = done.clone();
                    next.push(*s);
                    next
                })
            })
            .collect()
    })
}

impl Layout {
    /// Stacks tensors; the order of equal tiles is that of the tensors.
    pub(crate) fn new(shapes: Vec<Vec<usize>>, min_log: usize) -> Self {
        let mut tiles: Vec<Tile> = Vec::new();
        for (tensor, shape) in shapes.iter().enumerate() {
            for segments in boxes(shape) {
                let log = segments.iter().map(|s| s.log).sum();
                tiles.push(Tile {
                    tensor,
                    segments,
                    log,
                    offset: 0,
                });
            }
        }
        tiles.sort_by_key(|t| std::cmp::Reverse(t.log));
        let mut cells = 0;
        let mut of_tensor = vec![Vec::new(); shapes.len()];
        for (i, tile) in tiles.iter_mut().enumerate() {
            tile.offset = cells;
            cells += 1 << tile.log;
            of_tensor[tile.tensor].push(i);
        }
        Self {
            tiles,
            of_tensor,
            shapes,
            cells,
            log: log2_ceil(cells).max(min_log),
        }
    }

    /// Copies a tensor's elements (row-major) to their places.
    pub(crate) fn scatter<T: Copy, U>(
        &self,
        tensor: usize,
        data: &[T],
        out: &mut [U],
        convert: impl Fn(T) -> U,
    ) {
        self.scatter_where(tensor, data, out, |tile| Some(tile.offset), convert);
    }

    /// As [`Self::scatter`], of the tiles for which there is a place.
    pub(crate) fn scatter_where<T: Copy, U>(
        &self,
        tensor: usize,
        data: &[T],
        out: &mut [U],
        place: impl Fn(&Tile) -> Option<usize>,
        convert: impl Fn(T) -> U,
    ) {
        let shape = &self.shapes[tensor];
        for tile in self.of_tensor[tensor].iter().map(|t| &self.tiles[*t]) {
            let Some(offset) = place(tile) else { continue };
            let out = &mut out[offset..offset + (1 << tile.log)];
            let last = tile
                .segments
                .last()
                .copied()
                .unwrap_or(Segment { start: 0, log: 0 });
            for (row, cells) in out.chunks_exact_mut(1 << last.log).enumerate() {
                let start = tile.row_start(shape, row) + last.start;
                for (cell, v) in cells.iter_mut().zip(&data[start..]) {
                    *cell = convert(*v);
                }
            }
        }
    }
}

impl Tile {
    /// Offset in the tensor of the first element of line `row` of the tile (all axes but the last), without the last axis' start.
    pub(crate) fn row_start(&self, shape: &[usize], row: usize) -> usize {
        let Some(last) = shape.len().checked_sub(1) else {
            return 0;
        };
        let mut rest = row;
        let mut stride = shape[last];
        let mut start = 0;
        for (s, n) in self.segments[..last].iter().zip(&shape[..last]).rev() {
            let i = s.start + (rest & ((1 << s.log) - 1));
            rest >>= s.log;
            start += i * stride;
            stride *= n;
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_one_place() {
        let shapes = vec![vec![5, 3], vec![], vec![7], vec![2, 3, 6]];
        let layout = Layout::new(shapes.clone(), 0);
        let mut seen = vec![None; 1 << layout.log];
        for (i, shape) in shapes.iter().enumerate() {
            let n: usize = shape.iter().product();
            let data: Vec<usize> = (0..n).map(|j| i * 1000 + j).collect();
            layout.scatter(i, &data, &mut seen, Some);
        }
        let mut found: Vec<usize> = seen.iter().flatten().copied().collect();
        found.sort_unstable();
        let mut want: Vec<usize> = shapes
            .iter()
            .enumerate()
            .flat_map(|(i, s)| (0..s.iter().product()).map(move |j| i * 1000 + j))
            .collect();
        want.sort_unstable();
        assert_eq!(found, want);
        assert_eq!(layout.cells, want.len());
        for tile in &layout.tiles {
            assert_eq!(tile.offset % (1 << tile.log), 0, "tiles are aligned");
        }
    }
}
