//! What the attempts of a call have come to, and what may be tried next.

use crate::gateway::call::end::EndReason;
use crate::gateway::call::forward::NotForwarded;
use crate::gateway::response::refusal::UpstreamFailure;
use crate::upstream::catalog::Route;
use std::sync::Arc;
use std::time::Duration;
use system::clock;

/// Mean pause before a lone upstream is tried once more.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A rate limit that ends within this time is waited out where no other upstream is free.
const MAX_LIMIT_WAIT: Duration = Duration::from_secs(3);

/// The attempts of a call so far.
#[derive(Default)]
pub(super) struct AttemptState<'a> {
    pub attempts: usize,
    pub last: Option<NotForwarded>,
    /// A route that failed without cost, and in a way that a second try may help.
    pub may_retry: Option<&'a Route>,
    /// An upstream at its concurrency limit.
    pub full: Option<&'a Route>,
    /// The shortest time until an open breaker admits a call again.
    pub rest: Option<Duration>,
    /// An upstream that took the request and did not respond in time.
    pub unheard: Option<Arc<str>>,
    /// A route whose rate limit ends soon, and when.
    pub limited: Option<(&'a Route, Duration)>,
    /// The routes that may be tried after the current one.
    pub others: &'a [&'a Route],
}

impl<'a> AttemptState<'a> {
    /// The end of a call that stopped before it was sent to `route`.
    pub fn stopped_at(&mut self, route: &Route, by: EndReason) -> NotForwarded {
        let (upstream, unheard) = (Arc::clone(&route.upstream.name), self.unheard.take());
        NotForwarded::Stopped { by, upstream, pending: None, unheard }
    }

    /// Records that the rate limit of `route` ends after `rest`.
    pub fn limited_for(&mut self, route: &'a Route, rest: Option<Duration>) {
        let Some(rest) = rest.filter(|rest| *rest <= MAX_LIMIT_WAIT) else { return };
        if self.limited.is_none_or(|(_, other)| rest < other) {
            self.limited = Some((route, rest));
        }
    }

    /// The route that is tried once more, after a pause: one whose rate limit ends soon, or a lone one that failed
    /// at once.
    pub fn second_try(&self) -> Option<(&'a Route, Duration)> {
        let pause = RETRY_INTERVAL.mul_f64(0.5 + clock::chance());
        let lone = self.may_retry.filter(|_| self.attempts == 1).map(|route| (route, pause));
        self.limited.map(|(route, rest)| (route, rest + pause)).or(lone)
    }

    /// The result when no upstream responded.
    pub fn outcome(&mut self) -> NotForwarded {
        let failure = match (self.full, self.rest) {
            (Some(_), _) => UpstreamFailure::Busy,
            (None, Some(rest)) => UpstreamFailure::Resting(rest),
            (None, None) => UpstreamFailure::Connect,
        };
        let unasked = NotForwarded::Failed {
            failure,
            upstream: "".into(),
            counted: false,
            unheard: None,
            fault: None,
        };
        let mut outcome = self.last.take().unwrap_or(unasked);
        if let NotForwarded::Failed { unheard, .. } = &mut outcome {
            *unheard = self.unheard.take();
        }
        outcome
    }
}
