//! What a stream is charged, however it ended.

use crate::gateway::call::cancellation::CancelReason;
use crate::gateway::call::end::{EndReason, UpstreamEnd};
use crate::gateway::call::settle::Settlement;
use crate::gateway::call::stream_quota::StreamQuota;
use domain::charge::{Source, Status};
use std::sync::Arc;
use wire::sse::Scanner;
use wire::stream_reader::StreamReader;

/// The settlement of a stream that is not drained, also charged for what it did not show.
pub(crate) async fn settlement_of(
    end: EndReason,
    quota: &mut StreamQuota<'_>,
    upstream: Arc<str>,
    first_output_at: Option<std::time::Instant>,
) -> Settlement {
    // Nothing was shown: the upstream may have reasoned all the time.
    let is_given_up =
        matches!(end, EndReason::Upstream(UpstreamEnd::Cut(_))) && !quota.meter.has_output();
    if is_given_up {
        quota.reserve_generated().await;
    }
    let settlement = settlement_of_shown(end.status(), quota, upstream, first_output_at);
    let reservation = quota.reservation();
    settlement.with_hidden(|counted| match end {
        // The operator bears what an end of the process costs.
        EndReason::Cancelled(CancelReason::Shutdown) => 0,
        // Its upstream is taken to stop.
        EndReason::CallerGone | EndReason::Cancelled(_) => reservation.hidden_until_now(counted),
        _ if is_given_up => reservation.hidden_or_generated(counted),
        _ => reservation.hidden_beside(counted),
    })
}

/// The settlement for the output that was shown: as reported, or counted and then at most what was reserved.
fn settlement_of_shown(
    status: Status,
    quota: &mut StreamQuota<'_>,
    upstream: Arc<str>,
    first_output_at: Option<std::time::Instant>,
) -> Settlement {
    if let Some(mut usage) = quota.reported() {
        if status != Status::Complete && usage.source == Source::Estimated {
            // As below: what we counted is not charged beyond what was reserved.
            let rest = quota.reserved().saturating_sub(usage.tokens.prompt);
            usage.tokens.completion = usage.tokens.completion.min(rest);
        }
        return Settlement::reported(status, usage, upstream, first_output_at);
    }
    let counted = quota.counted();
    let bound = if status == Status::Complete { u64::MAX } else { quota.reserved() };
    Settlement::estimated(
        status,
        (counted.prompt, counted.completion),
        bound,
        upstream,
        first_output_at,
    )
}

/// Counts what arrived, including what was not relayed and is not charged.
pub(crate) fn count_uncharged(
    quota: &mut StreamQuota<'_>,
    (scanner, events): (&mut Scanner, &mut dyn StreamReader),
    settlement: &Settlement,
) {
    if settlement.source == Source::Reported {
        return;
    }
    while let Ok(Some(event)) = scanner.next_event() {
        let _ = events.on_event(&event, &mut quota.meter);
    }
    let uncharged = quota.uncharged(settlement.tokens.total());
    quota.reservation().services.metrics.uncharged_tokens.increment(uncharged);
}
