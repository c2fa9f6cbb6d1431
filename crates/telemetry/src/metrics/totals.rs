//! The values of some series, for people who have no Prometheus.

use super::Metrics;

/// Numbers since the start of the process, or of this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accounts whose counters were repaired because they differed from the ledger.
    pub drift_repaired: u64,
    /// Charges that Redis acknowledged and then lost.
    pub lost_writes: u64,
    /// Admitted calls.
    pub admitted: u64,
    /// Streams that are open now.
    pub streams_open: u64,
    /// Calls that wait now for tokens reserved by calls in flight.
    pub waiting: u64,
    /// Calls retried before their first byte.
    pub retries: u64,
    /// Rows written to the ledger.
    pub written: u64,
    /// Bytes of the journal that are not yet written to the ledger.
    pub journal_behind_bytes: u64,
    /// Failed writes to the journal.
    pub journal_failures: u64,
}

impl Metrics {
    /// The current totals. As dear as a scrape.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let text = self.render();
        let value = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            whole(value.and_then(|value| value.parse().ok()).unwrap_or_default())
        };
        Totals {
            drift_repaired: value("knockx_quota_drift_total"),
            lost_writes: value("knockx_redis_lost_writes_total"),
            admitted: value("knockx_usage_admitted_total"),
            streams_open: value("knockx_streams_open"),
            waiting: value("knockx_admission_waiting"),
            retries: value("knockx_retries_total"),
            written: value("knockx_usage_persisted_total"),
            journal_behind_bytes: value("knockx_journal_behind_bytes"),
            journal_failures: value("knockx_journal_append_failures_total"),
        }
    }
}

/// A value without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both are cut off")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_their_series() {
        let metrics = Metrics::new(&[], &[]);
        assert_eq!(metrics.totals(), Totals::default());
        metrics.quota_drift.increment(1);
        metrics.redis_lost_writes.increment(2);
        metrics.usage_admitted.increment(3);
        metrics.streams_open.set(4.0);
        metrics.admission_waiting.set(5.0);
        metrics.retries.increment(6);
        metrics.usage_persisted.increment(7);
        metrics.journal_behind.set(8.5);
        metrics.journal_failures.increment(9);
        let expected = Totals {
            drift_repaired: 1,
            lost_writes: 2,
            admitted: 3,
            streams_open: 4,
            waiting: 5,
            retries: 6,
            written: 7,
            journal_behind_bytes: 8,
            journal_failures: 9,
        };
        assert_eq!(metrics.totals(), expected);
    }
}
