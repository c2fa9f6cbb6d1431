//! The quota of a running stream: reserved, used, and extended slice by slice.
//!
//! The next slice is requested in the background before the present one is used up. Far from the
//! limit, use is judged by a cheap ceiling; where no more is to be had, by an exact count.
//! A stream that gets no more is cut within 100 ms: while it waits its upstream is not read, which continues
//! to produce tokens that are not charged.

use crate::gateway::call::reservation::Reservation;
use domain::charge::TokenCount;
use domain::id::RequestId;
use futures_util::future::BoxFuture;
use quota::backend::{ExtendOutcome, QuotaUnavailable};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::request::Request;
use wire::tokens::meter::Meter;
use wire::usage::Usage;

/// How long a stream that cannot go on waits for other calls of its user to give back: for one that is
/// just ending. With the asking itself this is well below the 100 ms after which it has to be cut.
const OTHER_CALLS_TIMEOUT: Duration = EXTEND_RETRY_INTERVAL;
/// The same for a quota store that cannot be reached: streams outlast a short outage.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two tries while it waits.
const EXTEND_RETRY_INTERVAL: Duration = Duration::from_millis(15);

/// The quota of one stream: its reservation, its meter, and the extension under way.
pub struct StreamQuota<'a> {
    pub meter: Meter,
    reservation: Reservation,
    /// `None` once the call's body is gone; the prompt is then taken as it was reserved or counted.
    request: Option<&'a Request<'a>>,
    slice: u64,
    /// Set once the prompt has been counted exactly.
    prompt_is_exact: bool,
    /// The size of the latest slice; the next is requested when half of it is left.
    latest: u64,
    pending_extend: Option<PendingExtend>,
    /// The latest extension added nothing, so only an exact count can decide whether enough is reserved.
    needs_exact_count: bool,
    /// The time since which the stream has waited for other calls to return tokens.
    blocked_since: Option<Instant>,
}

type PendingExtend = BoxFuture<'static, Result<ExtendOutcome, QuotaUnavailable>>;

/// What the answer to a request for more quota means for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaChange {
    /// Check again whether the reservation covers the event.
    Recheck,
    /// The limit is reached.
    Exhausted,
}

impl<'a> StreamQuota<'a> {
    /// The quota of an admitted stream.
    #[must_use]
    pub fn new(reservation: Reservation, request: &'a Request<'a>, slice: u64) -> Self {
        let latest = reservation.reserved.saturating_sub(reservation.prompt);
        let prompt_is_exact = reservation.counted_prompt.is_some();
        Self {
            meter: Meter::default(),
            reservation,
            request: Some(request),
            slice,
            prompt_is_exact,
            latest,
            pending_extend: None,
            needs_exact_count: false,
            blocked_since: None,
        }
    }

    /// The quota of a stream whose request body is no longer in memory.
    #[must_use]
    pub fn without_request(reservation: Reservation, slice: u64) -> StreamQuota<'static> {
        let latest = reservation.reserved.saturating_sub(reservation.prompt);
        StreamQuota {
            meter: Meter::default(),
            reservation,
            request: None,
            slice,
            prompt_is_exact: true,
            latest,
            pending_extend: None,
            needs_exact_count: false,
            blocked_since: None,
        }
    }

    /// The same quota without the request's body, its prompt counted.
    #[must_use]
    pub fn detached(mut self) -> StreamQuota<'static> {
        let _ = self.exact_prompt();
        StreamQuota { request: None, ..self }
    }

    /// The id of its call.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.reservation.request
    }

    /// Tokens reserved in all.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reservation.reserved
    }

    /// True if the reservation covers all that was metered. Requests the next slice ahead of need.
    pub fn covers(&mut self) -> bool {
        let ceiling = self.reservation.prompt.saturating_add(self.meter.output_ceiling());
        self.reservation.observed.set(ceiling);
        if !self.reservation.sliced {
            return true;
        }
        let reserved_tokens = self.reservation.reserved;
        if ceiling <= reserved_tokens {
            let is_low = reserved_tokens - ceiling < self.latest / 2;
            if is_low && self.pending_extend.is_none() && self.blocked_since.is_none() {
                self.pending_extend = Some(self.start_extend(self.slice, 1));
            }
            return true;
        }
        if self.needs_exact_count {
            return self.shortfall() == 0;
        }
        // More is usually had sooner, and always cheaper, than the answer is counted.
        if self.pending_extend.is_none() {
            self.pending_extend =
                Some(self.start_extend(self.slice.max(ceiling - reserved_tokens), 1));
        }
        false
    }

    /// Resolves when a pending request for more has been answered. A stream that is `blocked`
    /// always has one pending.
    pub async fn changed(&mut self, blocked: bool) -> QuotaChange {
        if self.pending_extend.is_none() && blocked {
            if self.blocked_since.is_some() {
                tokio::time::sleep(EXTEND_RETRY_INTERVAL).await;
            }
            let least = self.shortfall().max(1);
            self.pending_extend = Some(self.start_extend(self.slice.max(least), least));
        }
        let Some(pending_extend) = &mut self.pending_extend else {
            return std::future::pending().await;
        };
        let answer = pending_extend.await;
        self.pending_extend = None;
        self.on_extend(answer, blocked)
    }

    /// Tokens as we count them: the prompt exactly, the output as exactly as it can be.
    pub fn counted(&mut self) -> TokenCount {
        let prompt = self.exact_prompt();
        TokenCount { prompt, completion: self.meter.output_counted(), ..TokenCount::default() }
    }

    /// The reported usage, with the gateway's own count of what the report left out.
    pub fn reported(&mut self) -> Option<Usage> {
        let (reservation, request) = (&self.reservation, self.request);
        self.meter.reported(|| {
            request.map_or(reservation.prompt, |request| reservation.exact_prompt(request))
        })
    }

    /// The reservation as it stands.
    #[must_use]
    pub fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    /// Reserves what was shown to the meter beyond the reservation, or as much as the user's limits have room for.
    pub async fn reserve_shown(&mut self) {
        if self.meter.usage().is_none() {
            let shown = self.counted().total();
            self.reservation.reserve_up_to(shown).await;
        }
    }

    /// See [`Reservation::reserve_generated`].
    pub async fn reserve_generated(&mut self) {
        self.reservation.reserve_generated().await;
    }

    /// Ends the stream's quota and returns the reservation to be settled.
    #[must_use]
    pub fn into_reservation(self) -> Reservation {
        self.reservation
    }

    fn on_extend(
        &mut self,
        answer: Result<ExtendOutcome, QuotaUnavailable>,
        blocked: bool,
    ) -> QuotaChange {
        match answer {
            Ok(ExtendOutcome::Added(tokens)) => {
                self.reservation.reserved += tokens;
                self.latest = tokens;
                self.needs_exact_count = false;
                self.blocked_since = None;
                QuotaChange::Recheck
            }
            _ if blocked && !self.needs_exact_count => {
                self.needs_exact_count = true;
                QuotaChange::Recheck
            }
            // Asked ahead of time: the stream finds out when it really needs more.
            _ if !blocked => {
                self.latest = 0;
                QuotaChange::Recheck
            }
            Ok(ExtendOutcome::Exhausted) => QuotaChange::Exhausted,
            Ok(ExtendOutcome::Blocked) => self.wait(OTHER_CALLS_TIMEOUT),
            Err(QuotaUnavailable) => self.wait(STORE_TIMEOUT),
        }
    }

    /// Decides whether a stream that cannot continue now still waits.
    fn wait(&mut self, longest: Duration) -> QuotaChange {
        let now = Instant::now();
        let since = *self.blocked_since.get_or_insert(now);
        if now.duration_since(since) < longest {
            QuotaChange::Recheck
        } else {
            QuotaChange::Exhausted
        }
    }

    /// Tokens that arrived and are not charged, when `charged` are.
    pub fn uncharged(&mut self, charged: u64) -> u64 {
        let counted = self.counted();
        counted.total().saturating_sub(charged)
    }

    /// Tokens used beyond those reserved, counted exactly.
    fn shortfall(&mut self) -> u64 {
        self.reservation.prompt = self.exact_prompt();
        let used = self.reservation.prompt.saturating_add(self.meter.output_counted());
        used.saturating_sub(self.reservation.reserved)
    }

    fn exact_prompt(&mut self) -> u64 {
        if let Some(request) = self.request.filter(|_| !self.prompt_is_exact) {
            self.reservation.prompt = self.reservation.exact_prompt(request);
            self.prompt_is_exact = true;
        }
        self.reservation.prompt
    }

    fn start_extend(&self, want: u64, least: u64) -> PendingExtend {
        let quota = Arc::clone(self.reservation.quota());
        let request = self.reservation.request;
        Box::pin(async move { quota.extend(request, want, least).await })
    }
}
