//! What a stream is charged, however it ended.

use crate::gateway::call::cancellation::Pulled;
use crate::gateway::call::settle::Ending;
use crate::gateway::call::stream_end::End;
use crate::gateway::call::stream_quota::Allowance;
use domain::charge::{Source, Status};
use std::sync::Arc;
use wire::sse::Scanner;
use wire::stream_reader::StreamReader;

/// The ending of a stream that is not read on, also charged for what it did not show.
pub(crate) async fn ending_of(
    end: End,
    allowance: &mut Allowance<'_>,
    upstream: Arc<str>,
    first_output_at: Option<std::time::Instant>,
) -> Ending {
    // Nothing was shown: the upstream may have reasoned all the time.
    let is_given_up = matches!(end, End::UpstreamCut(_)) && !allowance.meter.has_output();
    if is_given_up {
        allowance.reserve_generated().await;
    }
    let ending = ending_of_shown(end.status(), allowance, upstream, first_output_at);
    let reservation = allowance.reservation();
    ending.with_hidden(|counted| match end {
        // The operator bears what an end of the process costs.
        End::Pulled(Pulled::ShuttingDown) => 0,
        // Its upstream is taken to stop.
        End::CallerGone | End::Pulled(_) => reservation.hidden_until_now(counted),
        _ if is_given_up => reservation.hidden_or_generated(counted),
        _ => reservation.hidden_beside(counted),
    })
}

/// What a stream is charged for what it showed: as reported, or counted and then never above what it held.
fn ending_of_shown(
    status: Status,
    allowance: &mut Allowance<'_>,
    upstream: Arc<str>,
    first_output_at: Option<std::time::Instant>,
) -> Ending {
    if let Some(mut usage) = allowance.reported() {
        if status != Status::Complete && usage.source == Source::Estimated {
            // As below: what we counted is not charged beyond what was reserved.
            let rest = allowance.reserved().saturating_sub(usage.tokens.prompt);
            usage.tokens.completion = usage.tokens.completion.min(rest);
        }
        return Ending::reported(status, usage, upstream, first_output_at);
    }
    let counted = allowance.counted();
    let bound = if status == Status::Complete { u64::MAX } else { allowance.reserved() };
    Ending::estimated(
        status,
        (counted.prompt, counted.completion),
        bound,
        upstream,
        first_output_at,
    )
}

/// Counts what arrived, including what was not relayed and is not charged.
pub(crate) fn count_uncharged(
    allowance: &mut Allowance<'_>,
    (scanner, follow): (&mut Scanner, &mut dyn StreamReader),
    ending: &Ending,
) {
    if ending.source == Source::Reported {
        return;
    }
    while let Ok(Some(event)) = scanner.next_event() {
        let _ = follow.on_event(&event, &mut allowance.meter);
    }
    let uncharged = allowance.uncharged(ending.tokens.total());
    allowance.reservation().settler.metrics.uncharged_tokens.increment(uncharged);
}
