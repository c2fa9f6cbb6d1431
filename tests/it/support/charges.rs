//! What a gateway's calls cost: ledger rows, the upstream's bill beside them, and metrics.

use super::{Gateway, soon};
use domain::charge::Charge;
use mock_xai::request_log::LogEntry;

impl Gateway {
    /// The ledger row of a call by its `x-request-id`, once no call is open.
    pub async fn charge(&self, request: &str) -> Charge {
        self.settled().await;
        let charge = self.running.store.charge(request.parse().unwrap()).await.unwrap();
        charge.expect("a ledger row")
    }

    /// Recent ledger rows, once no call is open.
    pub async fn charges(&self) -> Vec<Charge> {
        self.settled().await;
        super::recent_charges(&self.running.store).await
    }

    /// The only recent ledger row, once no call is open.
    pub async fn only_charge(&self) -> Charge {
        let mut charges = self.charges().await;
        assert_eq!(charges.len(), 1, "{charges:?}");
        charges.remove(0)
    }

    /// The simulator's bill for a call.
    pub fn bill(&self, charge: &Charge) -> LogEntry {
        let request = charge.request.0.to_string();
        let entries = self.simulator.log.entries();
        let entry = entries.iter().find(|entry| entry.request.as_ref() == Some(&request));
        entry.unwrap_or_else(|| panic!("no {request} in {entries:?}")).clone()
    }

    /// Waits until the simulator generates nothing any more.
    pub async fn upstream_is_idle(&self) {
        let is_idle = || async { self.simulator.log.totals().open == 0 };
        soon("the upstream has no open answer", is_idle).await;
    }

    /// The value of a series, labels included in its name, once no call is open.
    pub async fn metric(&self, name: &str) -> u64 {
        self.settled().await;
        let text = self.metrics();
        let start = format!("{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.expect("the metric is there").parse().unwrap()
    }
}
