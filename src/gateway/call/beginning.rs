//! Waits for the beginning of a reply, and gives up an upstream that is silent while another one can have the call.

use crate::gateway::call::end::EndReason;
use crate::gateway::call::forward::{Forwarding, stopped};
use crate::gateway::call::response_prefix::{Beginning, ResponsePrefix};
use crate::gateway::listener::session::Session;
use crate::upstream::catalog::Route;
use crate::upstream::client::Exchange;
use futures_util::future::OptionFuture;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use system::clock;

/// The longest silence of an upstream, and the routes that may have its call afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct SilenceLimit<'a> {
    /// `None` = it may be silent for as long as its other timeouts allow.
    timeout: Option<Duration>,
    others: &'a [&'a Route],
    /// Another route could have the call when the attempt began.
    may_fail_over: bool,
}

impl Forwarding<'_> {
    /// The limit for an attempt at `route`, before the `others` are tried.
    pub(super) fn silence_limit<'a>(
        &self,
        route: &Route,
        others: &'a [&'a Route],
    ) -> SilenceLimit<'a> {
        let model = &self.reservation.model;
        let may_fail_over = others.iter().any(|other| self.is_available(other));
        // A model that reasons unseen is silent for long; only a timeout of its own applies to it.
        let default = route.upstream.timeouts.first_event.filter(|_| !model.hidden_reasoning);
        let timeout = model.first_event_timeout.unwrap_or(default);
        let timeout = timeout.filter(|_| may_fail_over && self.request.stream);
        SilenceLimit { timeout, others, may_fail_over }
    }

    /// Resolves when the call is stopped, or, with `None`, when the upstream has been silent since `since` for too
    /// long and another one can have the call at this moment.
    pub(super) async fn interrupted(
        &self,
        session: &mut Session,
        limit: SilenceLimit<'_>,
        since: Instant,
    ) -> Option<EndReason> {
        let stopped = stopped(session, self.cancellation);
        let Some(timeout) = limit.timeout else { return Some(stopped.await) };
        tokio::pin!(stopped);
        tokio::select! {
            biased;
            by = &mut stopped => return Some(by),
            () = tokio::time::sleep_until((since + timeout).into()) => {}
        }
        if self.upstreams.retry_budget.covers_retry()
            && limit.others.iter().any(|other| self.is_available(other))
        {
            return None;
        }
        Some(stopped.await)
    }

    /// Reads ahead until the reply has begun. No byte of it has gone to the caller by then, so another upstream may
    /// still have the call.
    pub(super) async fn beginning(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        limit: SilenceLimit<'_>,
    ) -> Beginning {
        let mut prefix =
            ResponsePrefix::new(self.request, exchange, self.event_bytes, limit.may_fail_over);
        let hold = clock::instant() + prefix.max_wait(self.hold);
        // With a limit of its own, the caller is kept waiting by keep-alive comments.
        let hold = match (limit.timeout, &self.cancellation.early) {
            (Some(_), Some(early)) if prefix.is_stream() => {
                early.begin_at(hold.into());
                None
            }
            _ => Some(tokio::time::sleep_until(hold.into())),
        };
        let hold = OptionFuture::from(hold);
        tokio::pin!(hold);
        // Each event ends a silence.
        loop {
            let interrupted = self.interrupted(session, limit, clock::instant());
            tokio::pin!(interrupted);
            let before = prefix.events();
            while prefix.events() == before {
                let read = tokio::select! {
                    biased;
                    // First, because what has come needs no timer.
                    read = exchange.read_ahead() => read,
                    by = &mut interrupted => match by {
                        // Whoever relays the reply finds out the same, and settles it.
                        Some(_) => return Beginning::Reply,
                        None => return Beginning::Silent,
                    },
                    Some(()) = &mut hold => return Beginning::Reply,
                };
                if let ControlFlow::Break(beginning) = prefix.take(&read) {
                    return beginning;
                }
            }
        }
    }
}
