//! Prometheus metrics, named `portcullis_<thing>_<unit>_total`.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::model::{Direction, Effect, Reason};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    protocol: &'static str,
    decision: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabel {
    class: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// All metrics of the agent; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    operations: Family<OperationLabels, Counter>,
    connections: Counter,
    closed: Family<ReasonLabel, Counter>,
    live: Gauge,
    turned_away: Counter,
    bytes: Family<DirectionLabel, Counter>,
    masked: Family<ClassLabel, Counter>,
    durable: Histogram,
    held: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let operations = Family::default();
        registry.register("operations", "Operations decided", operations.clone());
        let connections: Counter<u64, AtomicU64> = Counter::default();
        registry.register(
            "connections",
            "Connections redirected to the agent",
            connections.clone(),
        );
        let closed = Family::default();
        registry.register(
            "connections_closed",
            "Connections ended, by reason",
            closed.clone(),
        );
        let live = Gauge::default();
        registry.register("connections_live", "Connections open now", live.clone());
        let turned_away: Counter<u64, AtomicU64> = Counter::default();
        registry.register(
            "connections_turned_away",
            "Connections closed at the limit",
            turned_away.clone(),
        );
        let bytes = Family::default();
        registry.register_with_unit(
            "operation",
            "Bytes of allowed operations",
            Unit::Bytes,
            bytes.clone(),
        );
        let masked = Family::default();
        registry.register("values_masked", "Values masked, by data class", masked.clone());
        let durable = Histogram::new([1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1.0]);
        registry.register_with_unit(
            "ledger_durable",
            "Time from decision to durable entry",
            Unit::Seconds,
            durable.clone(),
        );
        let held = Gauge::default();
        registry.register(
            "operations_held",
            "Operations that wait for approval now",
            held.clone(),
        );
        Self {
            registry: Arc::new(registry),
            operations,
            connections,
            closed,
            live,
            turned_away,
            bytes,
            masked,
            durable,
            held,
        }
    }
}

impl Metrics {
    /// An operation was decided.
    pub fn operation(&self, protocol: &'static str, effect: Effect, reason: Reason) {
        let labels = OperationLabels {
            protocol,
            decision: effect.as_str(),
            reason: reason.as_str(),
        };
        self.operations.get_or_create(&labels).inc();
    }

    /// How long an entry took to become durable.
    pub fn durable(&self, took: std::time::Duration) {
        self.durable.observe(took.as_secs_f64());
    }

    /// An operation waits for approval, until what this gives is dropped.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.inc();
        Held(self.held.clone())
    }

    /// A connection was accepted.
    pub fn opened(&self) {
        self.connections.inc();
        self.live.inc();
    }

    /// A connection ended.
    pub fn closed(&self, reason: Reason) {
        self.live.dec();
        self.closed
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// A connection was closed at once: the limit was reached, or the agent is stopping.
    pub fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// Bytes of an allowed operation.
    pub fn bytes(&self, direction: Direction, n: u64) {
        let direction = match direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        self.bytes.get_or_create(&DirectionLabel { direction }).inc_by(n);
    }

    /// Values masked.
    pub fn masked(&self, class: &str, n: u64) {
        self.masked
            .get_or_create(&ClassLabel { class: class.into() })
            .inc_by(n);
    }

    /// The `OpenMetrics` text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Counts an operation as held for as long as it is there.
#[derive(Debug)]
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let metrics = Metrics::default();
        metrics.operation("http", Effect::Deny, Reason::PolicyForbid);
        metrics.bytes(Direction::Up, 7);
        metrics.masked("email", 2);
        let _held = metrics.held();
        drop(metrics.held());
        let text = metrics.text();
        assert!(text.contains("portcullis_operations_held 1"), "{text}");
        let line =
            "portcullis_operations_total{protocol=\"http\",decision=\"deny\",reason=\"policy_forbid\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("portcullis_operation_bytes_total{direction=\"up\"} 7"),
            "{text}"
        );
        assert!(
            text.contains("portcullis_values_masked_total{class=\"email\"} 2"),
            "{text}"
        );
    }
}
