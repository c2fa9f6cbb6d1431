//! Any store, with every change to users, keys and plans announced to those who keep copies.

use super::audit::{Audit, AuditEntry, AuditFilter, Change};
use super::reports::{Connections, HistoryFilter, Latency, Reports, Sums, TopBy};
use super::sessions::{Adopted, Credentials, NewSession, Rotated, Rotation, Sessions};
use super::stored_responses::StoredResponses;
use super::upgrades::{Decided, Upgrade, UpgradeStatus, Upgrades};
use super::{
    Changes, CommitStamp, Drift, Entry, KeyChange, KeyFilter, Mark, NewKey, NewUser, PlanChange,
    Store, StoreError,
};
use super::{Used, UserChange, UserError, UserFilter};
use crate::account::by::By;
use crate::account::caller::Caller;
use crate::account::charge::Charge;
use crate::account::day::Day;
use crate::account::id::{KeyId, PlanId, RequestId, SessionId, UpgradeId, UserId};
use crate::account::key::Key;
use crate::account::plan::Plan;
use crate::account::server_secret::{Fingerprint, ServerSecret};
use crate::account::stored_response::StoredResponse;
use crate::account::user::{User, UserStatus};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// Who is told.
#[async_trait]
pub trait Announcer: Send + Sync + 'static {
    /// Returns once everybody will act on the change: of one user, or of any.
    async fn announce(&self, user: Option<UserId>) -> Result<(), StoreError>;
}

/// A store whose changes are announced before they are answered.
pub struct Announced {
    inner: Arc<dyn Store>,
    announcer: Arc<dyn Announcer>,
}

impl Announced {
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, announcer: Arc<dyn Announcer>) -> Self {
        Self { inner, announcer }
    }

    async fn announce_later(&self, user: UserId) {
        if let Err(error) = self.announcer.announce(Some(user)).await {
            tracing::warn!(%user, %error, "failed to announce a new key to other gateways, retrying later");
        }
    }
}

/// The verbs in the table change nothing of which there are copies, and are passed on; what follows
/// it stands as it is.
macro_rules! announced {
    (
        $trait:ident {
            $($verb:ident($($name:ident: $type:ty),*) -> $out:ty;)*
        }
        $($announcing:tt)*
    ) => {
        #[async_trait]
        impl $trait for Announced {
            $(async fn $verb(&self, $($name: $type),*) -> $out {
                self.inner.$verb($($name),*).await
            })*

            $($announcing)*
        }
    };
}

announced! {
    Store {
        claim() -> Result<(), StoreError>;
        release_claim() -> Result<(), StoreError>;
        prepare_days(from: Day) -> Result<(), StoreError>;
        prune(now: Timestamp) -> Result<u64, StoreError>;
        journal(batch: &[Entry], mark: Option<Mark>) -> Result<(), StoreError>;
        mark(log: Uuid) -> Result<Option<u64>, StoreError>;
        latest_mark() -> Result<Option<Mark>, StoreError>;
        used_since(from: Day) -> Result<Vec<Used>, StoreError>;
        caller(key: &KeyId) -> Result<Option<Caller>, StoreError>;
        user_version(user: UserId) -> Result<Option<u64>, StoreError>;
        changes(since: u64) -> Result<Changes, StoreError>;
        last_change() -> Result<u64, StoreError>;
        confirm_changes(upto: u64) -> Result<(), StoreError>;
        is_change_confirmed(user: Option<UserId>) -> Result<bool, StoreError>;
        add_user(user: &NewUser, by: &By) -> Result<User, UserError>;
        user(id: UserId) -> Result<Option<User>, StoreError>;
        user_by_email(email: &str) -> Result<Option<User>, StoreError>;
        users(
            filter: &UserFilter, after: Option<UserId>, limit: u32
        ) -> Result<Vec<User>, StoreError>;
        keys(
            user: UserId, filter: &KeyFilter, limit: u32
        ) -> Result<Vec<Key>, StoreError>;
        key(user: UserId, key: &KeyId) -> Result<Option<Key>, StoreError>;
        plans() -> Result<Vec<Plan>, StoreError>;
        plan(id: &PlanId) -> Result<Option<Plan>, StoreError>;
        add_plan(plan: &Plan, by: &By) -> Result<bool, StoreError>;
        rollup_drift(day: Day) -> Result<Vec<Drift>, StoreError>;
        ledger_totals(day: Day) -> Result<Vec<Used>, StoreError>;
        charge(request: RequestId) -> Result<Option<Charge>, StoreError>;
        charges(day: Day) -> Result<Vec<Charge>, StoreError>;
        bury(entry: &str, why: &str, now: Timestamp) -> Result<(), StoreError>;
        recorded(charges: &[(RequestId, Day)]) -> Result<HashSet<RequestId>, StoreError>;
        prune_ledger(before: Day, now: Timestamp) -> Result<u64, StoreError>;
        is_ledger_pruned(day: Day) -> Result<bool, StoreError>;
        buried() -> Result<u64, StoreError>;
        ping() -> Result<(), StoreError>;
    }

    fn commit_stamp(&self) -> CommitStamp {
        self.inner.commit_stamp()
    }

    async fn change_user(
        &self,
        id: UserId,
        change: &UserChange,
        by: &By,
    ) -> Result<Option<User>, UserError> {
        let changed = self.inner.change_user(id, change, by).await?;
        self.announcer.announce(Some(id)).await?;
        Ok(changed)
    }

    // A new key is shown once: it must not be lost because others cannot be told of it yet. While they
    // cannot, no call is admitted; what was not told is told as soon as they can.
    async fn add_key(&self, user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError> {
        let added = self.inner.add_key(user, key, by).await?;
        self.announce_later(user).await;
        Ok(added)
    }

    async fn change_key(
        &self,
        user: UserId,
        key: &KeyId,
        change: &KeyChange,
        by: &By,
    ) -> Result<Option<Key>, StoreError> {
        let changed = self.inner.change_key(user, key, change, by).await?;
        self.announcer.announce(Some(user)).await?;
        Ok(changed)
    }

    async fn replace_key(&self, user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError> {
        let added = self.inner.replace_key(user, key, by).await?;
        self.announce_later(user).await;
        Ok(added)
    }

    async fn revoke_key(&self, key: &KeyId, by: &By) -> Result<Option<Key>, StoreError> {
        let owner = self.inner.caller(key).await?.map(|caller| caller.user);
        let revoked = self.inner.revoke_key(key, by).await?;
        self.announcer.announce(owner).await?;
        Ok(revoked)
    }

    async fn put_plans(&self, plans: &[Plan], by: &By) -> Result<Vec<PlanId>, StoreError> {
        let kept = self.inner.put_plans(plans, by).await?;
        self.announcer.announce(None).await?;
        Ok(kept)
    }

    async fn change_plan(
        &self,
        id: &PlanId,
        change: &PlanChange,
        by: &By,
    ) -> Result<Option<Plan>, StoreError> {
        let changed = self.inner.change_plan(id, change, by).await?;
        self.announcer.announce(None).await?;
        Ok(changed)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

announced! {
    Sessions {
        credentials(email: &str) -> Result<Option<Credentials>, StoreError>;
        credentials_of(user: UserId) -> Result<Option<Credentials>, StoreError>;
        rehash(user: UserId, old: &str, new: &str) -> Result<(), StoreError>;
        open_session(session: &NewSession) -> Result<(), StoreError>;
        session_user(session: SessionId, now: Timestamp) -> Result<Option<User>, StoreError>;
        rotate_session(rotation: &Rotation) -> Result<Rotated, StoreError>;
        end_session(session: SessionId) -> Result<(), StoreError>;
        adopt_secret(secret: &ServerSecret, now: Timestamp) -> Result<Adopted, StoreError>;
        secret_in_use(
            mine: Option<Fingerprint>, now: Timestamp
        ) -> Result<Option<Fingerprint>, StoreError>;
    }
}

announced! {
    Upgrades {
        ask_upgrade(user: UserId, to: &PlanId, by: &By) -> Result<Upgrade, StoreError>;
        upgrades(
            status: Option<UpgradeStatus>, before: Option<UpgradeId>, limit: u32
        ) -> Result<Vec<Upgrade>, StoreError>;
    }

    async fn decide_upgrade(
        &self,
        id: UpgradeId,
        approve: bool,
        by: &By,
    ) -> Result<Option<Decided>, StoreError> {
        let decided = self.inner.decide_upgrade(id, approve, by).await?;
        // Also of one that was decided before: its announcement may be what went wrong.
        if let Some(Decided::Now(upgrade) | Decided::Before(upgrade)) = &decided {
            self.announcer.announce(Some(upgrade.user)).await?;
        }
        Ok(decided)
    }
}

announced! {
    Audit {
        note(change: &Change, by: &By) -> Result<(), StoreError>;
        audit(
            filter: &AuditFilter, before: Option<Uuid>, limit: u32
        ) -> Result<Vec<AuditEntry>, StoreError>;
    }
}

announced! {
    StoredResponses {
        record_response(reply: &StoredResponse, now: Timestamp) -> Result<bool, StoreError>;
        stored_response(id: &str, now: Timestamp) -> Result<Option<StoredResponse>, StoreError>;
        claim_response(
            id: &str, now: Timestamp, until: Timestamp
        ) -> Result<bool, StoreError>;
        release_response(id: &str) -> Result<(), StoreError>;
        delete_response(id: &str) -> Result<(), StoreError>;
    }
}

announced! {
    Reports {
        usage_by_day(user: UserId, from: Day, to: Day) -> Result<Vec<(Day, Sums)>, StoreError>;
        usage_by_model(
            user: UserId, from: Day, to: Day
        ) -> Result<Vec<(String, Sums)>, StoreError>;
        usage_by_quarter_hour(
            user: UserId, day: Day
        ) -> Result<Vec<(Timestamp, String, Sums)>, StoreError>;
        latency(user: UserId, from: Day, to: Day) -> Result<Latency, StoreError>;
        history(
            user: UserId, filter: &HistoryFilter, before: Option<(Timestamp, RequestId)>, limit: u32
        ) -> Result<Vec<Charge>, StoreError>;
        last_used(user: UserId) -> Result<Vec<(KeyId, Timestamp)>, StoreError>;
        user_counts() -> Result<Vec<(PlanId, UserStatus, u64)>, StoreError>;
        totals_by_plan(from: Day, to: Day) -> Result<Vec<(PlanId, u64, Sums)>, StoreError>;
        totals_by_model(from: Day, to: Day) -> Result<Vec<(String, Sums)>, StoreError>;
        top_users(
            from: Day, to: Day, by: TopBy, limit: u32
        ) -> Result<Vec<(User, Sums)>, StoreError>;
    }

    fn connections(&self) -> Connections {
        self.inner.connections()
    }
}
