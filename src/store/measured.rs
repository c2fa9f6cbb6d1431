//! Any store, with the time of each verb recorded, and its outages kept short.

use super::audit::{Audit, AuditEntry, AuditFilter, Change};
use super::gate::Gate;
use super::reports::{Connections, HistoryFilter, Latency, Reports, Sums, TopBy};
use super::sessions::{Adopted, Credentials, NewSession, Rotated, Rotation, Sessions};
use super::stored_responses::StoredResponses;
use super::upgrades::{Decided, Upgrade, UpgradeStatus, Upgrades};
use super::{
    Changes, CommitStamp, Drift, Entry, KeyChange, KeyFilter, Mark, NewKey, NewUser, PlanChange,
    Reach, Store, StoreError,
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
use crate::clock;
use crate::telemetry::labels::StoreOp;
use crate::telemetry::metrics::Metrics;
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// A store whose verbs show in `knockx_store_seconds`, and fail at once while it refuses connections.
pub struct Measured {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    gate: Gate,
}

impl Measured {
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        let gate = Gate::new(Arc::clone(&inner));
        Self { inner, metrics, gate }
    }
}

/// Each verb of the trait is passed on, and its time recorded under `op`; what follows the table
/// stands as it is.
macro_rules! measured {
    (
        $trait:ident {
            $($op:ident $verb:ident($($name:ident: $type:ty),*) -> $out:ty;)*
        }
        $($untimed:tt)*
    ) => {
        #[async_trait]
        impl $trait for Measured {
            $(async fn $verb(&self, $($name: $type),*) -> $out {
                let began = clock::instant();
                let verb = self.inner.$verb($($name),*);
                // The journal reaches the server by itself, and must learn what became of a batch.
                let done = match StoreOp::$op {
                    StoreOp::Journal => verb.await,
                    _ => self.gate.pass(verb).await,
                };
                let took = clock::instant().duration_since(began);
                self.metrics.store_seconds(StoreOp::$op).record(took);
                done
            })*

            $($untimed)*
        }
    };
}

measured! {
    Store {
        Journal claim() -> Result<(), StoreError>;
        Journal release_claim() -> Result<(), StoreError>;
        Ledger prepare_days(from: Day) -> Result<(), StoreError>;
        Accounts prune(now: Timestamp) -> Result<u64, StoreError>;
        Journal journal(batch: &[Entry], mark: Option<Mark>) -> Result<(), StoreError>;
        Journal mark(log: Uuid) -> Result<Option<u64>, StoreError>;
        Journal latest_mark() -> Result<Option<Mark>, StoreError>;
        Ledger bury(entry: &str, why: &str, now: Timestamp) -> Result<(), StoreError>;
        Ledger used_since(from: Day) -> Result<Vec<Used>, StoreError>;
        Caller caller(key: &KeyId) -> Result<Option<Caller>, StoreError>;
        UserVersion user_version(user: UserId) -> Result<Option<u64>, StoreError>;
        Changes changes(since: u64) -> Result<Changes, StoreError>;
        Changes last_change() -> Result<u64, StoreError>;
        Changes confirm_changes(upto: u64) -> Result<(), StoreError>;
        Changes is_change_confirmed(user: Option<UserId>) -> Result<bool, StoreError>;
        Accounts add_user(user: &NewUser, by: &By) -> Result<User, UserError>;
        Accounts user(id: UserId) -> Result<Option<User>, StoreError>;
        Accounts user_by_email(email: &str) -> Result<Option<User>, StoreError>;
        Accounts users(
            filter: &UserFilter, after: Option<UserId>, limit: u32
        ) -> Result<Vec<User>, StoreError>;
        Accounts change_user(
            id: UserId, change: &UserChange, by: &By
        ) -> Result<Option<User>, UserError>;
        Accounts add_key(user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError>;
        Accounts change_key(
            user: UserId, key: &KeyId, change: &KeyChange, by: &By
        ) -> Result<Option<Key>, StoreError>;
        Accounts replace_key(user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError>;
        Accounts keys(
            user: UserId, filter: &KeyFilter, limit: u32
        ) -> Result<Vec<Key>, StoreError>;
        Accounts key(user: UserId, key: &KeyId) -> Result<Option<Key>, StoreError>;
        Accounts revoke_key(key: &KeyId, by: &By) -> Result<Option<Key>, StoreError>;
        Plans plans() -> Result<Vec<Plan>, StoreError>;
        Plans plan(id: &PlanId) -> Result<Option<Plan>, StoreError>;
        Plans put_plans(plans: &[Plan], by: &By) -> Result<Vec<PlanId>, StoreError>;
        Plans add_plan(plan: &Plan, by: &By) -> Result<bool, StoreError>;
        Plans change_plan(
            id: &PlanId, change: &PlanChange, by: &By
        ) -> Result<Option<Plan>, StoreError>;
        Ledger rollup_drift(day: Day) -> Result<Vec<Drift>, StoreError>;
        Ledger ledger_totals(day: Day) -> Result<Vec<Used>, StoreError>;
        Ledger charge(request: RequestId) -> Result<Option<Charge>, StoreError>;
        Ledger charges(day: Day) -> Result<Vec<Charge>, StoreError>;
        Ledger recorded(charges: &[(RequestId, Day)]) -> Result<HashSet<RequestId>, StoreError>;
        Ledger prune_ledger(before: Day, now: Timestamp) -> Result<u64, StoreError>;
        Ledger is_ledger_pruned(day: Day) -> Result<bool, StoreError>;
        Ledger buried() -> Result<u64, StoreError>;
        Ping ping() -> Result<(), StoreError>;
    }

    fn commit_stamp(&self) -> CommitStamp {
        self.inner.commit_stamp()
    }

    async fn reach(&self) -> Reach {
        self.inner.reach().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

measured! {
    Sessions {
        Sessions credentials(email: &str) -> Result<Option<Credentials>, StoreError>;
        Sessions credentials_of(user: UserId) -> Result<Option<Credentials>, StoreError>;
        Sessions rehash(user: UserId, old: &str, new: &str) -> Result<(), StoreError>;
        Sessions open_session(session: &NewSession) -> Result<(), StoreError>;
        Sessions session_user(
            session: SessionId, now: Timestamp
        ) -> Result<Option<User>, StoreError>;
        Sessions rotate_session(rotation: &Rotation) -> Result<Rotated, StoreError>;
        Sessions end_session(session: SessionId) -> Result<(), StoreError>;
        Sessions adopt_secret(secret: &ServerSecret, now: Timestamp) -> Result<Adopted, StoreError>;
        Sessions secret_in_use(
            mine: Option<Fingerprint>, now: Timestamp
        ) -> Result<Option<Fingerprint>, StoreError>;
    }
}

measured! {
    Upgrades {
        Accounts ask_upgrade(user: UserId, to: &PlanId, by: &By) -> Result<Upgrade, StoreError>;
        Accounts upgrades(
            status: Option<UpgradeStatus>, before: Option<UpgradeId>, limit: u32
        ) -> Result<Vec<Upgrade>, StoreError>;
        Accounts decide_upgrade(
            id: UpgradeId, approve: bool, by: &By
        ) -> Result<Option<Decided>, StoreError>;
    }
}

measured! {
    Audit {
        Audit note(change: &Change, by: &By) -> Result<(), StoreError>;
        Audit audit(
            filter: &AuditFilter, before: Option<Uuid>, limit: u32
        ) -> Result<Vec<AuditEntry>, StoreError>;
    }
}

measured! {
    StoredResponses {
        Kept record_response(reply: &StoredResponse, now: Timestamp) -> Result<bool, StoreError>;
        Kept stored_response(id: &str, now: Timestamp) -> Result<Option<StoredResponse>, StoreError>;
        Kept claim_response(
            id: &str, now: Timestamp, until: Timestamp
        ) -> Result<bool, StoreError>;
        Kept release_response(id: &str) -> Result<(), StoreError>;
        Kept delete_response(id: &str) -> Result<(), StoreError>;
    }
}

measured! {
    Reports {
        Reports usage_by_day(user: UserId, from: Day, to: Day) -> Result<Vec<(Day, Sums)>, StoreError>;
        Reports usage_by_model(
            user: UserId, from: Day, to: Day
        ) -> Result<Vec<(String, Sums)>, StoreError>;
        Reports usage_by_quarter_hour(
            user: UserId, day: Day
        ) -> Result<Vec<(Timestamp, String, Sums)>, StoreError>;
        Reports latency(user: UserId, from: Day, to: Day) -> Result<Latency, StoreError>;
        Reports history(
            user: UserId, filter: &HistoryFilter, before: Option<(Timestamp, RequestId)>, limit: u32
        ) -> Result<Vec<Charge>, StoreError>;
        Reports last_used(user: UserId) -> Result<Vec<(KeyId, Timestamp)>, StoreError>;
        Reports user_counts() -> Result<Vec<(PlanId, UserStatus, u64)>, StoreError>;
        Reports totals_by_plan(from: Day, to: Day) -> Result<Vec<(PlanId, u64, Sums)>, StoreError>;
        Reports totals_by_model(from: Day, to: Day) -> Result<Vec<(String, Sums)>, StoreError>;
        Reports top_users(
            from: Day, to: Day, by: TopBy, limit: u32
        ) -> Result<Vec<(User, Sums)>, StoreError>;
    }

    fn connections(&self) -> Connections {
        self.inner.connections()
    }
}
