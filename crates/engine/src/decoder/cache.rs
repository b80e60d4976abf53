//! Keys and values of a sequence, in pages of positions, in the order in which the product kernels read them.

use crate::simd::{
    elementwise::Element,
    pack::{Line16, PANEL, padded, panels},
};

/// Positions of a page. The bounds of `mix` keep sums over 256 positions within 2^30, so one page never passes 32 bits.
pub(crate) const PAGE: usize = 128;

/// Shape of one attention: query heads, key heads, width of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) d: usize,
}

impl Heads {
    /// Width of a head in whole steps.
    pub(crate) const fn padded(&self) -> usize {
        padded(self.d)
    }

    /// Query heads of a key head.
    pub(crate) const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Lines of the keys of one head in a page.
    pub(crate) const fn key_lines(&self) -> usize {
        PAGE / PANEL * self.padded() / 2
    }

    /// Lines of the values of one head in a page.
    pub(crate) const fn value_lines(&self) -> usize {
        panels(self.d) * PAGE / 2
    }
}

/// One page: for each key head, keys as panels of 16 positions, values as panels of 16 channels.
#[derive(Clone)]
struct Page {
    keys: Vec<Line16>,
    values: Vec<Line16>,
}

/// The cache of one attention of one sequence.
#[derive(Clone, Default)]
pub(crate) struct Cache {
    pages: Vec<Page>,
}

impl Cache {
    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.pages
            .iter()
            .map(|p| (p.keys.len() + p.values.len()) * 64)
            .sum()
    }

    /// Makes room for position `t`.
    pub(crate) fn reach(&mut self, heads: Heads, t: usize) {
        while self.pages.len() * PAGE <= t {
            self.pages.push(Page {
                keys: vec![Line16([0; 32]); heads.kv_heads * heads.key_lines()],
                values: vec![Line16([0; 32]); heads.kv_heads * heads.value_lines()],
            });
        }
    }

    /// Stores the key of position `t`, all heads.
    pub(crate) fn put_key<T: Element>(&mut self, heads: Heads, t: usize, row: &[T]) {
        let Some(page) = self.pages.get_mut(t / PAGE) else {
            return;
        };
        let steps = heads.padded() / 2;
        let (panel, lane) = (t % PAGE / PANEL, t % PANEL);
        for (lines, k) in page
            .keys
            .chunks_exact_mut(heads.key_lines())
            .zip(row.chunks_exact(heads.d))
        {
            for (line, pair) in lines[panel * steps..].iter_mut().zip(k.chunks(2)) {
                for (e, v) in pair.iter().enumerate() {
                    line.0[2 * lane + e] = v.wide() as i16;
                }
            }
        }
    }

    /// Stores the value of position `t`, all heads.
    pub(crate) fn put_value<T: Element>(&mut self, heads: Heads, t: usize, row: &[T]) {
        let Some(page) = self.pages.get_mut(t / PAGE) else {
            return;
        };
        let (step, e) = (t % PAGE / 2, t % 2);
        for (lines, v) in page
            .values
            .chunks_exact_mut(heads.value_lines())
            .zip(row.chunks_exact(heads.d))
        {
            for (panel, v) in lines.chunks_exact_mut(PAGE / 2).zip(v.chunks(PANEL)) {
                for (c, v) in v.iter().enumerate() {
                    panel[step].0[2 * c + e] = v.wide() as i16;
                }
            }
        }
    }

    /// Keys of head `h` in page `p`.
    pub(crate) fn keys(&self, heads: Heads, p: usize, h: usize) -> &[Line16] {
        let n = heads.key_lines();
        self.pages
            .get(p)
            .map_or(&[], |p| &p.keys[h * n..(h + 1) * n])
    }

    /// Values of head `h` in page `p`.
    pub(crate) fn values(&self, heads: Heads, p: usize, h: usize) -> &[Line16] {
        let n = heads.value_lines();
        self.pages
            .get(p)
            .map_or(&[], |p| &p.values[h * n..(h + 1) * n])
    }
}
