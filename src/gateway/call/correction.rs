//! Corrects estimated charges once the upstream reports the actual usage.
//!
//! A stored response whose call was cut is charged by estimate, a deferred completion by its full reservation.
//! The first request that retrieves either sees the upstream's usage and replaces the charge: ledger row,
//! rollups and counters of the day on which the call was admitted, exactly once.

use crate::gateway::Gateway;
use crate::gateway::response::refusal::Refusal;
use crate::response_owners::{RESPONSE_LIFETIME, ResponseOwners};
use crate::upstream::Upstreams;
use domain::cached_tokens::CachedTokenFraction;
use domain::charge::{Charge, Source, Status, TokenCount};
use domain::id::RequestId;
use domain::stored_response::StoredResponse;
use jiff::{SignedDuration, Timestamp};
use quota::backend::{Correction, QuotaBackend};
use std::sync::Arc;
use std::time::Duration;
use wire::error::UpstreamError;
use wire::surface::Surface;
use wire::tokens::meter::Meter;
use wire::usage::Usage;

/// How long a reader waits for the charge of the call that made the reply: it may still be on its way to
/// the ledger.
const CHARGE_TIMEOUT: Duration = Duration::from_secs(4);
const CHARGE_POLL: Duration = Duration::from_millis(50);
/// A charge that is not in the ledger for so long will not come: its day has been pruned.
const PRUNED_AFTER: SignedDuration = SignedDuration::from_hours(48);

/// Corrects charges that were estimated.
#[derive(Clone)]
pub struct ChargeCorrector {
    pub owners: ResponseOwners,
    pub quota: Arc<dyn QuotaBackend>,
    pub upstreams: Arc<Upstreams>,
}

impl Gateway {
    pub(crate) fn corrector(&self, upstreams: &Arc<Upstreams>) -> ChargeCorrector {
        ChargeCorrector {
            owners: self.owners.clone(),
            quota: Arc::clone(&self.services.quota),
            upstreams: Arc::clone(upstreams),
        }
    }
}

impl ChargeCorrector {
    /// Sets right what the call that made `reply` was charged, where that is still an estimate and `body`,
    /// the response as the upstream has it now, reports its usage.
    ///
    /// # Errors
    /// The charge could not be corrected now: the body must not be returned.
    pub async fn settle(
        &self,
        reply: &StoredResponse,
        surface: Surface,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(call) = reply.unsettled else { return Ok(()) };
        let Some(usage) = usage_in(surface, body) else { return Ok(()) };
        match self.charge_of(call).await? {
            Some(charge) if charge.source == Source::Estimated => {
                let correction = self.correction(charge, usage, reply.cached_token_fraction);
                self.quota.correct(&correction).await.map_err(|_| Refusal::QuotaUnavailable)?;
                tracing::info!(
                    request_id = %call,
                    user_id = %reply.user,
                    tokens_before = correction.before,
                    tokens = correction.charge.counted_tokens(),
                    "charge corrected to the usage reported by the upstream"
                );
            }
            Some(_) => {}
            None if is_pruned(reply, now) => {}
            None => return Err(Refusal::ReplyInUse),
        }
        let settled =
            StoredResponse { tokens: usage.tokens.total(), unsettled: None, ..reply.clone() };
        if let Err(unknown) = self.owners.record(&settled, now).await {
            // The next reader finds that the ledger has it.
            tracing::warn!(request_id = %call, error = %unknown, "failed to mark a stored response as settled");
        }
        Ok(())
    }

    /// True if the ledger has the usage that the upstream reported for `reply`, although the response's own record
    /// does not say so yet.
    pub async fn is_settled(&self, reply: &StoredResponse, now: Timestamp) -> bool {
        let Some(call) = reply.unsettled else { return true };
        let charge = self.owners.charge(call).await;
        let is_settled = charge.is_ok_and(|it| it.is_some_and(|it| it.source == Source::Reported));
        if is_settled {
            let settled = StoredResponse { unsettled: None, ..reply.clone() };
            // Noted or not, the ledger says so.
            let _ = self.owners.record(&settled, now).await;
        }
        is_settled
    }

    /// The charge of a call that has ended, or is about to.
    async fn charge_of(&self, call: RequestId) -> Result<Option<Charge>, Refusal> {
        let found = async {
            loop {
                match self.owners.charge(call).await {
                    Ok(None) => tokio::time::sleep(CHARGE_POLL).await,
                    found => return found,
                }
            }
        };
        match tokio::time::timeout(CHARGE_TIMEOUT, found).await {
            Ok(found) => found.map_err(|_| Refusal::RepliesUnavailable),
            Err(_) => Ok(None),
        }
    }

    fn correction(
        &self,
        charge: Charge,
        usage: Usage,
        fraction: CachedTokenFraction,
    ) -> Correction {
        let before = charge.counted_tokens();
        let model = self.upstreams.catalog.model(&charge.model);
        let cost = model.map(|model| {
            model.prices.cost_micro_dollars(&usage.tokens, usage.cache_written, usage.cost_ticks)
        });
        let status = match charge.status {
            Status::Abandoned => Status::CutByUpstream,
            status => status,
        };
        let charge = Charge {
            tokens: usage.tokens,
            uncounted: usage.tokens.uncounted(fraction),
            cost_micro_dollars: cost.unwrap_or(charge.cost_micro_dollars),
            status,
            source: Source::Reported,
            ..charge
        };
        Correction { charge, before }
    }
}

/// What a reply says it has used; an error in its place says that it was nothing. Numbers that cannot be
/// right leave the estimate as it is.
fn usage_in(surface: Surface, body: &[u8]) -> Option<Usage> {
    let mut meter = Meter::default();
    surface.read_reply(body, &mut meter);
    let nothing = Usage {
        tokens: TokenCount::default(),
        cache_written: 0,
        total: Some(0),
        cost_ticks: Some(0),
        source: Source::Reported,
    };
    // Any prompt has a token: a count of none is not believed.
    let usage = meter.reported(|| 1).filter(|usage| usage.source == Source::Reported);
    usage.or_else(|| UpstreamError::in_reply(body).map(|_| nothing))
}

fn is_pruned(reply: &StoredResponse, now: Timestamp) -> bool {
    reply.expires_at.duration_since(now) < RESPONSE_LIFETIME - PRUNED_AFTER
}
