//! Counters for Prometheus; the help text is the doc comment of the field.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct CallLabels {
    pub(crate) path: &'static str,
    pub(crate) status: u16,
}

/// Counters of one gateway.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) calls: Family<CallLabels, Counter>,
    pub(crate) receipts: Counter,
    pub(crate) fees: Counter,
    pub(crate) operator_failures: Counter,
    pub(crate) seconds: Histogram,
    pub(crate) tokens: Counter,
    pub(crate) cancelled: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("assay_gateway");
        let calls = Family::<CallLabels, Counter>::default();
        registry.register("calls", "HTTP calls by path and status", calls.clone());
        let receipts = Counter::default();
        registry.register(
            "receipts",
            "Answers passed on with a receipt that checked",
            receipts.clone(),
        );
        let fees = Counter::default();
        registry.register(
            "fees_usd_micros",
            "Fees of these answers in millionths of usd",
            fees.clone(),
        );
        let operator_failures = Counter::default();
        registry.register(
            "operator_failures",
            "Answers of operators that were not used",
            operator_failures.clone(),
        );
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        registry.register("call_seconds", "Time of a call in seconds", seconds.clone());
        let tokens = Counter::default();
        registry.register(
            "tokens",
            "Answered tokens of language models",
            tokens.clone(),
        );
        let cancelled = Counter::default();
        registry.register(
            "cancelled",
            "Streams whose client went away before the end",
            cancelled.clone(),
        );
        Self {
            registry,
            calls,
            receipts,
            fees,
            operator_failures,
            seconds,
            tokens,
            cancelled,
        }
    }

    /// Exposition in the text format.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
