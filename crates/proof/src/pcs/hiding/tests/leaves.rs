//! What the opened leaves say about the committed cells: nothing.

use p3_commit::Mmcs;
use p3_matrix::Matrix;

use super::{
    super::{super::trees::Trees, *},
    Numbers, masked, row,
};

/// The rank of a matrix.
fn rank(mut rows: Vec<Vec<F>>) -> usize {
    let width = rows.first().map_or(0, Vec::len);
    let mut rank = 0;
    for column in 0..width {
        let Some(pivot) = (rank..rows.len()).find(|r| !rows[*r][column].is_zero()) else {
            continue;
        };
        rows.swap(rank, pivot);
        let (done, rest) = rows.split_at_mut(rank + 1);
        let top = &done[rank];
        let inverse = top[column].inverse();
        for row in rest {
            let factor = row[column] * inverse;
            for (a, b) in row[column..].iter_mut().zip(&top[column..]) {
                *a -= factor * *b;
            }
        }
        rank += 1;
    }
    rank
}

/// Distinct positions.
fn positions(rng: &mut Numbers, leaves: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..leaves).collect();
    for i in 0..count {
        let other = i + rng.next() as usize % (leaves - i);
        all.swap(i, other);
    }
    all.truncate(count);
    all
}

/// The opened leaves of `w` are an affine image of full rank of its random cells, whatever else it holds, and still are together with the leaves that make up the reserve.
#[test]
fn opened_leaves_are_uniform() {
    let mut rng = Numbers(31);
    for log in [11, 12, 14] {
        let row = row(log);
        let (width, rate) = (1 << fold(row), usize::from(row.rates[0]));
        let (height, leaves) = (1 << (log - fold(row)), 1 << row.leaves(0));
        let rows = random_cells(log).unwrap() / width;
        assert_eq!(rows, row.opened(0) + CLOSED_ROWS);
        let place = random_cells(log).unwrap().next_power_of_two();
        for at in [0, place, (1 << log) - place] {
            // column k: what the k-th random cell of a column adds to it
            let mut unit = vec![F::ZERO; height * rows];
            for k in 0..rows {
                unit[(at / width + k) * rows + k] = F::ONE;
            }
            let (_, tree) = whir::encode(&unit, rows, rate);
            let kept = Kept::Tree(tree);
            let word = Trees::new().get_matrices(&kept)[0].clone();
            assert_eq!(word.height(), leaves);
            let seen = |open: &[usize], rows: usize| -> Vec<Vec<F>> {
                let leaf = |p: &usize| word.row_slice(*p).unwrap()[..rows].to_vec();
                open.iter().map(leaf).collect()
            };
            let successive: Vec<usize> = (0..rows).collect();
            let spread: Vec<usize> = (0..rows).map(|i| i * leaves / rows).collect();
            let lists = [
                successive,
                spread,
                positions(&mut rng, leaves, rows),
                positions(&mut rng, leaves, rows),
            ];
            for open in lists {
                assert_eq!(rank(seen(&open, rows)), rows, "2^{log} at {at}");
                let opened = &open[..row.opened(0)];
                assert_eq!(rank(seen(opened, opened.len())), opened.len());
            }
            // one leaf more than there are random rows: not uniform any more
            let open = positions(&mut rng, leaves, rows + 1);
            assert_eq!(rank(seen(&open, rows)), rows);
        }
    }
}

/// A random cell reaches the words as the rank test says: cell `i·width + j` is coefficient `i` of column `j`.
#[test]
fn cells_are_coefficients_of_their_column() {
    let log = 11;
    let row = row(log);
    let (width, rate) = (1 << fold(row), usize::from(row.rates[0]));
    let at = 5 * width + 3;
    let mut base = masked(log, 37);
    let word = |tree: &whir::Word| Trees::new().get_matrices(&Kept::Tree(tree.clone()))[0].clone();
    let before = word(&base.trees[0]);
    base.cells[at] += F::ONE;
    let after = word(&whir::encode(&base.cells, width, rate).1);
    let mut unit = vec![F::ZERO; 1 << (log - fold(row))];
    unit[at / width] = F::ONE;
    let column = word(&whir::encode(&unit, 1, rate).1);
    for leaf in 0..before.height() {
        for j in 0..width {
            let cell = |word: &p3_matrix::dense::DenseMatrix<F>| word.values[leaf * width + j];
            let more = cell(&after) - cell(&before);
            let expected = if j == at % width {
                column.values[leaf]
            } else {
                F::ZERO
            };
            assert_eq!(more, expected);
        }
        assert!(!column.values[leaf].is_zero(), "no position is zero");
    }
}
