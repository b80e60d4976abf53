//! The report of a verification: one line for each fact, never a bare "valid".

use serde::Serialize;

use crate::Tier;

/// What is known about a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The evidence was there and holds.
    Shown,
    /// The evidence was there and contradicts the receipt.
    False,
    /// The evidence was not there, or could not be checked here.
    NotShown,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shown => "shown",
            Self::False => "false",
            Self::NotShown => "not shown",
        })
    }
}

/// One fact, its status, and the same in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Stable name: `signature`, `registered_key`, `request`, `input`, `output`, `claim_state`, `evidence`, `replay`; of
    /// answers that were sampled also `sampling`, `grammar` (if constrained), `length`.
    pub name: &'static str,
    /// What is known.
    pub status: Status,
    /// What was checked and what came out, or why it was not checked.
    pub words: String,
}

impl Fact {
    /// The evidence holds.
    pub fn shown(name: &'static str, words: impl Into<String>) -> Self {
        Self::new(name, Status::Shown, words)
    }

    /// The evidence contradicts what is claimed.
    pub fn contradicted(name: &'static str, words: impl Into<String>) -> Self {
        Self::new(name, Status::False, words)
    }

    /// There was no evidence, or it could not be checked here.
    pub fn not_shown(name: &'static str, words: impl Into<String>) -> Self {
        Self::new(name, Status::NotShown, words)
    }

    fn new(name: &'static str, status: Status, words: impl Into<String>) -> Self {
        Self {
            name,
            status,
            words: words.into(),
        }
    }
}

/// Everything that a verification found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the receipt.
    pub claim_id: alloy_primitives::B256,
    /// Evidence tier in words.
    pub tier: &'static str,
    /// What an answer of this tier rests on.
    pub rests_on: &'static str,
    /// All facts, always in the same order.
    pub facts: Vec<Fact>,
}

impl Report {
    pub(crate) fn new(claim_id: alloy_primitives::B256, tier: Tier, facts: Vec<Fact>) -> Self {
        Self {
            claim_id,
            tier: tier.name(),
            rests_on: tier.statement(),
            facts,
        }
    }

    /// Whether some evidence contradicts the receipt (exit code 3 of the command line).
    pub fn is_contradicted(&self) -> bool {
        self.facts.iter().any(|fact| fact.status == Status::False)
    }

    /// Names of facts that were not shown.
    pub fn not_shown(&self) -> Vec<&'static str> {
        self.facts
            .iter()
            .filter(|fact| fact.status == Status::NotShown)
            .map(|fact| fact.name)
            .collect()
    }

    /// The fact called `name`.
    pub fn fact(&self, name: &str) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.name == name)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "receipt {}, tier {}", self.claim_id, self.tier)?;
        for fact in &self.facts {
            writeln!(
                f,
                "  {:<15} {:<10} {}",
                fact.name,
                fact.status.to_string(),
                fact.words
            )?;
        }
        write!(f, "rests on: {}", self.rests_on)?;
        let missing = self.not_shown();
        if !missing.is_empty() {
            write!(f, "\nnot checked: {}", missing.join(", "))?;
        }
        Ok(())
    }
}
