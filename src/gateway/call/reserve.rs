//! Estimate to reservation, or a refusal with its retry time.
//!
//! A [`Reservation`] is the one value that stands for "this call is admitted": it is consumed by
//! `settle`, and dropped unsettled (a panic, a runtime that goes away) it still charges all that it reserved.
//! A call that only running calls keep from its tokens waits for them: see [`crate::gateway::call::admission`].

use crate::callers::cache::CallerCache;
use crate::gateway::call::prompt_count::{self, CountingTurns};
use crate::gateway::call::reasoning_estimate::HiddenKinds;
use crate::gateway::call::reservation::Reservation;
use crate::gateway::call::services::CallServices;
use crate::gateway::response::quota_numbers::QuotaNumbers;
use crate::gateway::response::refusal::{Limited, Refusal};
use crate::upstream::catalog::Model;
use domain::caller::Caller;
use domain::charge::Lease;
use domain::day::Day;
use domain::id::RequestId;
use domain::limit::LimitKind;
use jiff::Timestamp;
use quota::backend::{Claim, Grant, ObservedTokens, QuotaBackend, QuotaRefusal, TakeOutcome};
use quota::rules::{self, Demand, Scope};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wire::request::Request;
use wire::surface::Output;
use wire::tokens::estimate;

/// A cheap estimate above one part in this many of the plan's day is worth an exact count.
const EXACT_COUNT_FRACTION: u64 = 256;
/// Number of times that a caller's record may turn out to be outdated in one admission.
const MAX_CALLER_REFRESHES: usize = 3;

/// The inputs of an admission.
pub struct ReservationRequest<'a> {
    pub request: RequestId,
    /// The caller's own id of the request.
    pub client_request_id: Option<Arc<str>>,
    pub body: &'a Request<'a>,
    pub model: &'a Arc<Model>,
    /// Token kinds that the upstream bills and the response does not show.
    pub kinds: HiddenKinds,
    /// Tokens to reserve for that.
    pub hidden: u64,
    /// Output tokens that one choice is likely to come to, where the caller names no limit.
    pub likely: u64,
    pub slice_tokens: u64,
    pub now: Timestamp,
    pub started: Instant,
    /// The prompt as counted exactly, once it has been.
    pub exact: OnceLock<u64>,
    /// Turns for counting long prompts.
    pub counting: &'a CountingTurns,
}

/// Tokens one call would like to have.
struct TokenDemand {
    need: Demand,
    /// Output tokens of all choices if nothing limited them.
    output: u64,
    /// Tokens beside them that are billed and not shown.
    hidden: u64,
}

impl TokenDemand {
    /// What is left for output of tokens granted beside the prompt. Hidden tokens come first, but leave a half:
    /// most calls need much less than is reserved for them.
    fn visible(&self, granted: u64) -> u64 {
        (granted - self.hidden.min(granted / 2)).min(self.output)
    }
}

/// Why a call was not admitted.
pub enum NotAdmitted {
    Refused(Refusal),
    /// The day has tokens left, but calls in flight have reserved them or are expected to use them.
    ByRunningCalls {
        refusal: Refusal,
        scope: Scope,
    },
}

impl From<Refusal> for NotAdmitted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Takes the quota of one call.
///
/// # Errors
/// The limit it ran into, or an unreachable quota store; nothing was taken.
pub async fn reserve(
    admission: &ReservationRequest<'_>,
    caller: Arc<Caller>,
    callers: &CallerCache,
    quota: &dyn QuotaBackend,
    services: &Arc<CallServices>,
) -> Result<Reservation, NotAdmitted> {
    let mut caller = caller;
    for _ in 0..MAX_CALLER_REFRESHES {
        match take_estimated(admission, &caller, quota).await {
            Ok(Admitted::Yes(admitted)) => {
                return Ok(admission.reservation(caller, admitted, Arc::clone(services)));
            }
            Ok(Admitted::Stale) => {}
            // No record is to blame, and a take that may have been carried out must not be repeated:
            // it is about to be withdrawn under this request's name.
            Err(NotAdmitted::Refused(Refusal::QuotaUnavailable)) => {
                return Err(Refusal::QuotaUnavailable.into());
            }
            // A changed plan applies from the next request on, so a refusal needs the current record.
            Err(no) if callers.is_current_as_known(&caller).await => return Err(no),
            Err(_) => {}
        }
        caller = refresh_caller(&caller, callers, admission).await?;
    }
    Err(Refusal::CallersUnavailable.into())
}

enum Admitted {
    Yes(Granted),
    Stale,
}

/// The quota granted to an admitted call.
struct Granted {
    grant: Grant,
    demand: TokenDemand,
    day: Day,
    observed: ObservedTokens,
}

/// Tries with a cheap estimate where the plan is large, and with an exact one where it matters.
async fn take_estimated(
    admission: &ReservationRequest<'_>,
    caller: &Caller,
    quota: &dyn QuotaBackend,
) -> Result<Admitted, NotAdmitted> {
    admission.body.permit(&caller.plan_limits.policy).map_err(Refusal::BadBody)?;
    if let Some(exact) = admission.exact.get() {
        return take(admission, caller, *exact, quota).await;
    }
    let overhead = admission.model.prompt_overhead_tokens;
    let cheap = estimate::estimate_prompt(admission.body, overhead);
    let generous = caller.plan_limits.tokens_per_day / EXACT_COUNT_FRACTION;
    if cheap <= generous {
        match take(admission, caller, cheap, quota).await {
            Err(
                NotAdmitted::ByRunningCalls { .. }
                | NotAdmitted::Refused(Refusal::Limited(Limited {
                    limit: LimitKind::TokensPerDay,
                    ..
                })),
            ) => {}
            decided => return decided,
        }
    }
    let room = prompt_count::room(admission, caller, quota).await?;
    let most = room.as_ref().map_or(u64::MAX, |room| room.most);
    match admission.count(caller, most).await? {
        Some(exact) => {
            let exact = *admission.exact.get_or_init(|| exact);
            take(admission, caller, exact, quota).await
        }
        None => {
            Err(prompt_count::does_not_fit(caller, room.map(|room| room.snapshot), admission.now))
        }
    }
}

async fn take(
    admission: &ReservationRequest<'_>,
    caller: &Caller,
    prompt: u64,
    quota: &dyn QuotaBackend,
) -> Result<Admitted, NotAdmitted> {
    let demand = admission.demand(prompt);
    let (day, debits) = rules::debits(caller, demand.need, admission.now);
    let lease = Lease {
        request: admission.request,
        user: caller.user,
        key: caller.key.clone(),
        version: caller.version,
        model: Arc::clone(&admission.model.id),
        day,
        reserved: 0,
        admitted_at: admission.now,
    };
    let observed = ObservedTokens::default();
    let claim = Claim { lease, debits, observed: observed.clone() };
    match quota.take(claim, admission.now).await {
        Ok(TakeOutcome::Granted(grant)) => {
            Ok(Admitted::Yes(Granted { grant, demand, day, observed }))
        }
        Ok(TakeOutcome::Stale) => Ok(Admitted::Stale),
        Ok(TakeOutcome::Refused(refused)) => {
            let needed = demand.need.prompt + demand.need.least_output;
            Err(not_admitted(refused, caller, day, admission.now, Some(needed)))
        }
        Err(_) => Err(Refusal::QuotaUnavailable.into()),
    }
}

/// Loads the caller's record again in place of an outdated one.
async fn refresh_caller(
    outdated: &Caller,
    callers: &CallerCache,
    admission: &ReservationRequest<'_>,
) -> Result<Arc<Caller>, Refusal> {
    let fresh = callers.refresh(outdated, admission.started).await;
    still_allowed(fresh.map_err(|_| Refusal::CallersUnavailable)?, admission)
}

/// The record as it is known now, if it still admits the call.
///
/// # Errors
/// The reason the caller may not continue, or that it cannot be determined.
pub async fn find_current_caller(
    caller: &Caller,
    callers: &CallerCache,
    admission: &ReservationRequest<'_>,
) -> Result<Arc<Caller>, Refusal> {
    let found = callers.find(&caller.key, admission.started).await;
    still_allowed(found.map_err(|_| Refusal::CallersUnavailable)?, admission)
}

fn still_allowed(
    found: Option<Arc<Caller>>,
    admission: &ReservationRequest<'_>,
) -> Result<Arc<Caller>, Refusal> {
    let caller = found.ok_or(Refusal::WrongKey)?;
    caller.check(admission.now)?;
    if !caller.may_use(&admission.model.id) {
        return Err(Refusal::ModelNotAllowed(admission.body.model.clone()));
    }
    Ok(caller)
}

pub(crate) fn not_admitted(
    refused: QuotaRefusal,
    caller: &Caller,
    day: Day,
    now: Timestamp,
    needed: Option<u64>,
) -> NotAdmitted {
    let refusal = refusal(&refused, caller, day, now, needed);
    match refused {
        QuotaRefusal { limit: LimitKind::TokensPerDay, by_open_calls: true, scope, .. } => {
            NotAdmitted::ByRunningCalls { refusal, scope }
        }
        _ => NotAdmitted::Refused(refusal),
    }
}

/// `needed` are the tokens that the call needs at least, where they are known.
fn refusal(
    refused: &QuotaRefusal,
    caller: &Caller,
    day: Day,
    now: Timestamp,
    needed: Option<u64>,
) -> Refusal {
    let day_ends = day.ends_at(&caller.plan_limits.time_zone);
    let resets_in_ms = day_ends.as_millisecond().saturating_sub(now.as_millisecond());
    let resets_in_ms = u64::try_from(resets_in_ms).unwrap_or(0);
    let retry_after_ms = match refused.limit {
        LimitKind::RequestsPerDay | LimitKind::TokensPerDay => resets_in_ms,
        LimitKind::Window | LimitKind::ConcurrentStreams => refused.retry_after_ms,
    };
    let numbers = QuotaNumbers::new(caller, &refused.snapshot, needed, day_ends, resets_in_ms);
    Refusal::Limited(Limited {
        limit: refused.limit,
        by_open_calls: refused.by_open_calls,
        retry_after_ms,
        numbers: Some(numbers),
    })
}

impl ReservationRequest<'_> {
    /// A stream demands one slice, unless it is billed for output that no slice can stop.
    fn demand(&self, prompt: u64) -> TokenDemand {
        let choices = self.body.n;
        let per_choice = match self.body.surface.output() {
            Output::Tokens(_) => self.body.max_output.unwrap_or(self.model.output_tokens),
            Output::Images => self.model.image_tokens,
            Output::None => 0,
        };
        let output = per_choice.saturating_mul(choices);
        // A stored response is generated, and billed, to its end whatever becomes of its stream.
        let shows_all = !self.kinds.reasoning && !self.kinds.tools;
        let can_be_stopped = shows_all && !self.body.dependencies.is_stored;
        let sliced = self.body.stream && can_be_stopped;
        // Text can be cut short; an image is had or not.
        let is_text = matches!(self.body.surface.output(), Output::Tokens(_));
        let hidden = if is_text { self.hidden } else { 0 };
        let wanted = if sliced {
            output.min(self.slice_tokens.max(choices))
        } else {
            output.saturating_add(hidden)
        };
        let least_output = if is_text { choices.min(output) } else { output };
        let likely_output = match self.body.max_output {
            None if is_text => self.likely.saturating_mul(choices).min(output),
            _ => output,
        };
        let need = Demand {
            prompt,
            output: wanted,
            least_output,
            likely_output: likely_output.saturating_add(hidden),
            stream: self.body.stream,
            sliced,
        };
        TokenDemand { need, output, hidden }
    }

    fn reservation(
        &self,
        caller: Arc<Caller>,
        granted: Granted,
        services: Arc<CallServices>,
    ) -> Reservation {
        let output = self.granted_output(&granted);
        let Granted { grant, demand, day, observed } = granted;
        Reservation {
            request: self.request,
            client_request_id: self.client_request_id.clone(),
            caller,
            model: Arc::clone(self.model),
            day,
            admitted_at: self.now,
            started: self.started,
            waited: Duration::ZERO,
            prompt: demand.need.prompt,
            counted_prompt: self
                .exact
                .get()
                .copied()
                .filter(|counted| *counted == demand.need.prompt),
            reserved: grant.tokens,
            observed,
            output_limit: output.limit,
            max_output_tokens: output.max_tokens,
            choices: self.body.n,
            kinds: self.kinds,
            hidden: demand.hidden,
            clamped: output.is_clamped,
            sliced: demand.need.sliced,
            snapshot: grant.snapshot,
            services,
            settled: false,
        }
    }

    /// The output that the granted tokens allow.
    fn granted_output(&self, granted: &Granted) -> GrantedOutput {
        let Granted { grant, demand, .. } = granted;
        let choices = self.body.n;
        let reachable =
            if demand.need.sliced { grant.tokens.saturating_add(grant.free) } else { grant.tokens };
        let visible = demand.visible(reachable.saturating_sub(demand.need.prompt));
        let falls_short = visible < demand.output;
        let per_choice = (visible / choices).max(1).min(demand.output / choices);
        let is_limited = falls_short || (!demand.need.sliced && self.body.max_output.is_none());
        let is_text = matches!(self.body.surface.output(), Output::Tokens(_));
        GrantedOutput {
            limit: (is_limited && is_text).then_some(per_choice),
            max_tokens: if falls_short {
                per_choice.saturating_mul(choices)
            } else {
                demand.output
            },
            is_clamped: falls_short && is_text,
        }
    }
}

/// The output that a grant allows; see the fields of [`Reservation`].
struct GrantedOutput {
    /// Per choice, to be sent upstream; `None` leaves the caller's limit in force.
    limit: Option<u64>,
    /// Of all choices.
    max_tokens: u64,
    /// True if the limit is below the requested one.
    is_clamped: bool,
}
