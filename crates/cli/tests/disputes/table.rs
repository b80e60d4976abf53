//! What was tried and how it ended, by kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::network::Fall;

/// Rows by model and kind.
#[derive(Default)]
pub struct Table(BTreeMap<(String, String), Row>);

#[derive(Default)]
struct Row {
    tried: usize,
    absorbed: usize,
    caught: usize,
    forms: BTreeMap<String, usize>,
    moves: BTreeSet<usize>,
    evidence: usize,
    /// Of the claims' batches, shared evenly.
    time: Duration,
}

impl Table {
    fn row(&mut self, part: &str, kind: &str) -> &mut Row {
        self.0
            .entry((part.to_owned(), kind.to_owned()))
            .or_default()
    }

    /// A change that no checkpoint shows: there is nothing false to catch.
    pub fn absorbed(&mut self, part: &str, kind: &str) {
        let row = self.row(part, kind);
        row.tried += 1;
        row.absorbed += 1;
    }

    pub fn caught(&mut self, part: &str, kind: &str, fall: &Fall, time: Duration) {
        let row = self.row(part, kind);
        row.tried += 1;
        row.caught += 1;
        *row.forms.entry(fall.form()).or_default() += 1;
        row.moves.insert(fall.moves.len());
        row.evidence = row.evidence.max(fall.evidence);
        row.time += time;
    }

    /// Whether any dispute had this form.
    pub fn has(&self, form: &str) -> bool {
        self.0.values().any(|row| row.forms.contains_key(form))
    }

    /// Tried, caught, absorbed.
    pub fn sums(&self) -> (usize, usize, usize) {
        self.0.values().fold((0, 0, 0), |sum, row| {
            (sum.0 + row.tried, sum.1 + row.caught, sum.2 + row.absorbed)
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22} {:<11} {:>5} {:>6} {:>8} {:>7} {:>9} {:>8}  form",
            "part", "kind", "tried", "caught", "absorbed", "moves", "evidence", "ms each"
        )?;
        for ((part, kind), row) in &self.0 {
            let ends = (row.moves.first(), row.moves.last());
            let moves = match ends {
                (Some(a), Some(b)) if a == b => a.to_string(),
                (Some(a), Some(b)) => format!("{a}-{b}"),
                _ => "-".to_owned(),
            };
            let forms: Vec<_> = row
                .forms
                .iter()
                .map(|(form, n)| format!("{form} {n}"))
                .collect();
            let each = row.time.as_millis() / row.caught.max(1) as u128;
            writeln!(
                f,
                "{part:<22} {kind:<11} {:>5} {:>6} {:>8} {moves:>7} {:>9} {each:>8}  {}",
                row.tried,
                row.caught,
                row.absorbed,
                row.evidence,
                forms.join(", ")
            )?;
        }
        Ok(())
    }
}
