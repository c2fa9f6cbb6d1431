//! A store for tests that answers what the test tells it to, when the test tells it to.

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
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// A question the store was asked, with the place for its answer.
#[derive(Debug)]
pub(crate) enum Asked {
    Journal(Vec<Entry>, Option<Mark>, oneshot::Sender<Result<(), StoreError>>),
    Mark(Uuid, oneshot::Sender<Result<Option<u64>, StoreError>>),
    LatestMark(oneshot::Sender<Result<Option<Mark>, StoreError>>),
    Bury(oneshot::Sender<Result<(), StoreError>>),
    Caller(oneshot::Sender<Result<Option<Caller>, StoreError>>),
}

pub(crate) struct ScriptedStore {
    asked: mpsc::UnboundedSender<Asked>,
}

impl ScriptedStore {
    /// The store, and the questions it is asked.
    pub(crate) fn make() -> (Arc<dyn Store>, mpsc::UnboundedReceiver<Asked>) {
        let (asked, questions) = mpsc::unbounded_channel();
        (Arc::new(Self { asked }), questions)
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Asked,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(question(answer)).expect("the test listens");
        answered.await.expect("the test answers")
    }
}

/// The verbs in the table are scripted by no test; what follows it stands as it is.
macro_rules! not_scripted {
    (
        $trait:ident {
            $($verb:ident($($type:ty),*) -> $out:ty;)*
        }
        $($scripted:tt)*
    ) => {
        #[async_trait]
        impl $trait for ScriptedStore {
            $(async fn $verb(&self, $(_: $type),*) -> $out {
                Err(StoreError::Unavailable("not scripted".into()).into())
            })*

            $($scripted)*
        }
    };
}

not_scripted! {
    Store {
        claim() -> Result<(), StoreError>;
        release_claim() -> Result<(), StoreError>;
        prepare_days(Day) -> Result<(), StoreError>;
        prune(Timestamp) -> Result<u64, StoreError>;
        used_since(Day) -> Result<Vec<Used>, StoreError>;
        user_version(UserId) -> Result<Option<u64>, StoreError>;
        changes(u64) -> Result<Changes, StoreError>;
        last_change() -> Result<u64, StoreError>;
        confirm_changes(u64) -> Result<(), StoreError>;
        is_change_confirmed(Option<UserId>) -> Result<bool, StoreError>;
        add_user(&NewUser, &By) -> Result<User, UserError>;
        user(UserId) -> Result<Option<User>, StoreError>;
        user_by_email(&str) -> Result<Option<User>, StoreError>;
        users(&UserFilter, Option<UserId>, u32) -> Result<Vec<User>, StoreError>;
        change_user(UserId, &UserChange, &By) -> Result<Option<User>, UserError>;
        add_key(UserId, &NewKey, &By) -> Result<Key, StoreError>;
        change_key(UserId, &KeyId, &KeyChange, &By) -> Result<Option<Key>, StoreError>;
        replace_key(UserId, &NewKey, &By) -> Result<Key, StoreError>;
        keys(UserId, &KeyFilter, u32) -> Result<Vec<Key>, StoreError>;
        key(UserId, &KeyId) -> Result<Option<Key>, StoreError>;
        revoke_key(&KeyId, &By) -> Result<Option<Key>, StoreError>;
        plans() -> Result<Vec<Plan>, StoreError>;
        plan(&PlanId) -> Result<Option<Plan>, StoreError>;
        put_plans(&[Plan], &By) -> Result<Vec<PlanId>, StoreError>;
        add_plan(&Plan, &By) -> Result<bool, StoreError>;
        change_plan(&PlanId, &PlanChange, &By) -> Result<Option<Plan>, StoreError>;
        rollup_drift(Day) -> Result<Vec<Drift>, StoreError>;
        ledger_totals(Day) -> Result<Vec<Used>, StoreError>;
        charge(RequestId) -> Result<Option<Charge>, StoreError>;
        charges(Day) -> Result<Vec<Charge>, StoreError>;
        recorded(&[(RequestId, Day)]) -> Result<HashSet<RequestId>, StoreError>;
        prune_ledger(Day, Timestamp) -> Result<u64, StoreError>;
        is_ledger_pruned(Day) -> Result<bool, StoreError>;
        buried() -> Result<u64, StoreError>;
        ping() -> Result<(), StoreError>;
    }

    async fn journal(&self, batch: &[Entry], mark: Option<Mark>) -> Result<(), StoreError> {
        self.ask(|answer| Asked::Journal(batch.to_vec(), mark, answer)).await
    }

    async fn mark(&self, log: Uuid) -> Result<Option<u64>, StoreError> {
        self.ask(|answer| Asked::Mark(log, answer)).await
    }

    async fn latest_mark(&self) -> Result<Option<Mark>, StoreError> {
        self.ask(Asked::LatestMark).await
    }

    async fn bury(&self, _: &str, _: &str, _: Timestamp) -> Result<(), StoreError> {
        self.ask(Asked::Bury).await
    }

    fn commit_stamp(&self) -> CommitStamp {
        CommitStamp::Remote
    }

    async fn caller(&self, _: &KeyId) -> Result<Option<Caller>, StoreError> {
        self.ask(Asked::Caller).await
    }
}

not_scripted! {
    Sessions {
        credentials(&str) -> Result<Option<Credentials>, StoreError>;
        credentials_of(UserId) -> Result<Option<Credentials>, StoreError>;
        rehash(UserId, &str, &str) -> Result<(), StoreError>;
        open_session(&NewSession) -> Result<(), StoreError>;
        session_user(SessionId, Timestamp) -> Result<Option<User>, StoreError>;
        rotate_session(&Rotation) -> Result<Rotated, StoreError>;
        end_session(SessionId) -> Result<(), StoreError>;
        adopt_secret(&ServerSecret, Timestamp) -> Result<Adopted, StoreError>;
        secret_in_use(Option<Fingerprint>, Timestamp) -> Result<Option<Fingerprint>, StoreError>;
    }
}

not_scripted! {
    Upgrades {
        ask_upgrade(UserId, &PlanId, &By) -> Result<Upgrade, StoreError>;
        upgrades(Option<UpgradeStatus>, Option<UpgradeId>, u32) -> Result<Vec<Upgrade>, StoreError>;
        decide_upgrade(UpgradeId, bool, &By) -> Result<Option<Decided>, StoreError>;
    }
}

not_scripted! {
    Audit {
        note(&Change, &By) -> Result<(), StoreError>;
        audit(&AuditFilter, Option<Uuid>, u32) -> Result<Vec<AuditEntry>, StoreError>;
    }
}

not_scripted! {
    StoredResponses {
        record_response(&StoredResponse, Timestamp) -> Result<bool, StoreError>;
        stored_response(&str, Timestamp) -> Result<Option<StoredResponse>, StoreError>;
        claim_response(&str, Timestamp, Timestamp) -> Result<bool, StoreError>;
        release_response(&str) -> Result<(), StoreError>;
        delete_response(&str) -> Result<(), StoreError>;
    }
}

not_scripted! {
    Reports {
        usage_by_day(UserId, Day, Day) -> Result<Vec<(Day, Sums)>, StoreError>;
        usage_by_model(
            UserId, Day, Day
        ) -> Result<Vec<(String, Sums)>, StoreError>;
        usage_by_quarter_hour(UserId, Day) -> Result<Vec<(Timestamp, String, Sums)>, StoreError>;
        latency(UserId, Day, Day) -> Result<Latency, StoreError>;
        history(
            UserId, &HistoryFilter, Option<(Timestamp, RequestId)>, u32
        ) -> Result<Vec<Charge>, StoreError>;
        last_used(UserId) -> Result<Vec<(KeyId, Timestamp)>, StoreError>;
        user_counts() -> Result<Vec<(PlanId, UserStatus, u64)>, StoreError>;
        totals_by_plan(Day, Day) -> Result<Vec<(PlanId, u64, Sums)>, StoreError>;
        totals_by_model(Day, Day) -> Result<Vec<(String, Sums)>, StoreError>;
        top_users(
            Day, Day, TopBy, u32
        ) -> Result<Vec<(User, Sums)>, StoreError>;
    }

    fn connections(&self) -> Connections {
        Connections { in_use: 0, open: 0, max: 0 }
    }
}
