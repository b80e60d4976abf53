//! What happens to an accumulator after the last product: bias, rounding shift, clamp, narrowing.

use assay_graph::DType;

use super::pack::{PANEL, panels};

/// Per-column constants of `sat(rnd(bias + acc, shift))`, padded to whole panels.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Added to the accumulator: bias, the half of the rounding shift, and corrections of the kernel, modulo 2^32.
    pub add: Vec<i32>,
    /// Right shift, 0 … 31.
    pub right: Vec<i32>,
    /// Left shift, 0 … 15.
    pub left: Vec<i32>,
    /// Largest value that may still be shifted left without passing `hi`.
    pub top: Vec<i32>,
    /// Smallest value that may still be shifted left without passing `lo`.
    pub bottom: Vec<i32>,
    /// Whether any column shifts left.
    pub any_left: bool,
    /// Lower clamp.
    pub lo: i32,
    /// Upper clamp.
    pub hi: i32,
    /// Element type of the result; `lo` and `hi` are within it.
    pub dtype: DType,
}

/// Where a product goes: `m` rows of `n` columns, row stride given beside it.
#[derive(Debug)]
pub enum OutMut<'a> {
    /// 8-bit elements.
    I8(&'a mut [i8]),
    /// 16-bit elements.
    I16(&'a mut [i16]),
    /// 32-bit elements.
    I32(&'a mut [i32]),
}

impl OutMut<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::I8(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::I8(_) => DType::I8,
            Self::I16(_) => DType::I16,
            Self::I32(_) => DType::I32,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Columns {
    /// `rows`: bias and shift (−15 … 31) of each column.
    pub fn new(
        rows: impl ExactSizeIterator<Item = (i32, i8)>,
        dtype: DType,
        lo: i32,
        hi: i32,
    ) -> Self {
        let n = panels(rows.len()) * PANEL;
        let mut c = Self {
            add: vec![0; n],
            right: vec![0; n],
            left: vec![0; n],
            top: vec![hi; n],
            bottom: vec![lo; n],
            any_left: false,
            lo,
            hi,
            dtype,
        };
        for (j, (bias, shift)) in rows.enumerate() {
            let (right, left) = (
                i32::from(shift.clamp(0, 31)),
                i32::from(shift.saturating_neg().clamp(0, 15)),
            );
            c.add[j] = if right > 0 {
                bias.wrapping_add(1i32.wrapping_shl(right as u32 - 1))
            } else {
                bias
            };
            c.right[j] = right;
            c.left[j] = left;
            c.any_left |= left > 0;
            c.top[j] = hi >> left;
            // ceil(lo / 2^left), in 64 bits because lo + 2^left may not fit
            c.bottom[j] = ((i64::from(lo) + (1i64 << left) - 1) >> left) as i32;
        }
        c
    }

    /// The same columns for a kernel whose accumulators are too large by `excess` (modulo 2^32).
    pub fn corrected(mut self, excess: &[i32]) -> Self {
        for (a, e) in self.add.iter_mut().zip(excess) {
            *a = a.wrapping_sub(*e);
        }
        self
    }

    /// One element: column `j`, accumulator `acc`.
    #[inline(always)]
    pub fn finish(&self, j: usize, acc: i32) -> i32 {
        let v = acc.wrapping_add(self.add[j]) >> (self.right[j] & 31);
        if v > self.top[j] {
            self.hi
        } else if v < self.bottom[j] {
            self.lo
        } else {
            v << (self.left[j] & 31)
        }
    }

    /// A block of accumulators `acc[i·stride + j]` into `out[i·ldo + j]`, columns from `j0`.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "a block is a place in three arrays"
    )]
    pub fn finish_block(
        &self,
        acc: &[i32],
        stride: usize,
        j0: usize,
        cols: usize,
        out: &mut OutMut<'_>,
        at: usize,
        ldo: usize,
    ) {
        match out {
            OutMut::I8(v) => {
                self.finish_into(acc, stride, j0, cols, &mut v[at..], ldo, |x| x as i8)
            }
            OutMut::I16(v) => {
                self.finish_into(acc, stride, j0, cols, &mut v[at..], ldo, |x| x as i16)
            }
            OutMut::I32(v) => self.finish_into(acc, stride, j0, cols, &mut v[at..], ldo, |x| x),
        }
    }

    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "a block is a place in three arrays"
    )]
    fn finish_into<T>(
        &self,
        acc: &[i32],
        stride: usize,
        j0: usize,
        cols: usize,
        out: &mut [T],
        ldo: usize,
        narrow: impl Fn(i32) -> T,
    ) {
        for (row, o) in acc.chunks_exact(stride).zip(out.chunks_mut(ldo.max(1))) {
            let (add, right, left) = (
                &self.add[j0..j0 + cols],
                &self.right[j0..j0 + cols],
                &self.left[j0..j0 + cols],
            );
            let (top, bottom) = (&self.top[j0..j0 + cols], &self.bottom[j0..j0 + cols]);
            let (row, o) = (&row[..cols], &mut o[..cols]);
            for j in 0..cols {
                let v = row[j].wrapping_add(add[j]) >> (right[j] & 31);
                let shifted = v.wrapping_shl(left[j] as u32);
                let r = if v > top[j] { self.hi } else { shifted };
                o[j] = narrow(if v < bottom[j] { self.lo } else { r });
            }
        }
    }
}
