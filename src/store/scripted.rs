//! A store for tests that answers what the test tells it to, when the test tells it to.

use super::reports::{Connections, HistoryFilter, Latency, Reports, Sums, TopBy};
use super::{AddUserError, Changes, Drift, Entry, NewKey, NewUser, Store, StoreError};
use super::{Used, UserChange, Written};
use crate::account::caller::Caller;
use crate::account::charge::Charge;
use crate::account::day::Day;
use crate::account::id::{KeyId, PlanId, RequestId, UserId};
use crate::account::key::Key;
use crate::account::plan::Plan;
use crate::account::user::{User, UserStatus};
use async_trait::async_trait;
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A question the store was asked, with the place for its answer.
#[derive(Debug)]
pub(crate) enum Asked {
    Journal(Vec<Entry>, oneshot::Sender<Result<Vec<Written>, StoreError>>),
    /// The entry's text.
    Bury(String, oneshot::Sender<Result<(), StoreError>>),
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

fn not_scripted<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("not scripted".into()))
}

#[async_trait]
impl Store for ScriptedStore {
    async fn journal(&self, batch: &[Entry]) -> Result<Vec<Written>, StoreError> {
        self.ask(|answer| Asked::Journal(batch.to_vec(), answer)).await
    }
    async fn caller(&self, _: &KeyId) -> Result<Option<Caller>, StoreError> {
        self.ask(Asked::Caller).await
    }
    async fn bury(&self, entry: &str, _: &str, _: Timestamp) -> Result<(), StoreError> {
        self.ask(|answer| Asked::Bury(entry.to_owned(), answer)).await
    }
    async fn claim(&self) -> Result<(), StoreError> {
        not_scripted()
    }
    async fn prepare_days(&self, _: Day) -> Result<(), StoreError> {
        not_scripted()
    }
    async fn abandon_leases(&self, _: Timestamp) -> Result<Vec<Charge>, StoreError> {
        not_scripted()
    }
    async fn used_since(&self, _: Day) -> Result<Vec<Used>, StoreError> {
        not_scripted()
    }
    async fn user_version(&self, _: UserId) -> Result<Option<u64>, StoreError> {
        not_scripted()
    }
    async fn changes(&self, _: u64) -> Result<Changes, StoreError> {
        not_scripted()
    }
    async fn add_user(&self, _: &NewUser) -> Result<User, AddUserError> {
        Ok(not_scripted()?)
    }
    async fn user(&self, _: UserId) -> Result<Option<User>, StoreError> {
        not_scripted()
    }
    async fn user_by_email(&self, _: &str) -> Result<Option<User>, StoreError> {
        not_scripted()
    }
    async fn users(&self, _: Option<UserId>, _: u32) -> Result<Vec<User>, StoreError> {
        not_scripted()
    }
    async fn change_user(&self, _: UserId, _: &UserChange) -> Result<Option<User>, StoreError> {
        not_scripted()
    }
    async fn add_key(&self, _: UserId, _: &NewKey) -> Result<Key, StoreError> {
        not_scripted()
    }
    async fn keys(&self, _: UserId) -> Result<Vec<Key>, StoreError> {
        not_scripted()
    }
    async fn revoke_key(&self, _: &KeyId, _: Timestamp) -> Result<Option<Key>, StoreError> {
        not_scripted()
    }
    async fn plans(&self) -> Result<Vec<Plan>, StoreError> {
        not_scripted()
    }
    async fn plan(&self, _: &PlanId) -> Result<Option<Plan>, StoreError> {
        not_scripted()
    }
    async fn put_plans(&self, _: &[Plan]) -> Result<(), StoreError> {
        not_scripted()
    }
    async fn rollup_drift(&self, _: Day) -> Result<Vec<Drift>, StoreError> {
        not_scripted()
    }
    async fn ledger_totals(&self, _: Day) -> Result<Vec<Used>, StoreError> {
        not_scripted()
    }
    async fn charge(&self, _: RequestId) -> Result<Option<Charge>, StoreError> {
        not_scripted()
    }
    async fn charges(&self, _: Day) -> Result<Vec<Charge>, StoreError> {
        not_scripted()
    }
    async fn open_leases(&self) -> Result<u64, StoreError> {
        not_scripted()
    }
    async fn buried(&self) -> Result<u64, StoreError> {
        not_scripted()
    }
    async fn ping(&self) -> Result<(), StoreError> {
        not_scripted()
    }
}

#[async_trait]
impl Reports for ScriptedStore {
    async fn usage_by_day(
        &self,
        _: UserId,
        _: Day,
        _: Day,
    ) -> Result<Vec<(Day, Sums)>, StoreError> {
        not_scripted()
    }
    async fn usage_by_model(
        &self,
        _: UserId,
        _: Day,
        _: Day,
    ) -> Result<Vec<(String, Sums)>, StoreError> {
        not_scripted()
    }
    async fn usage_by_hour(
        &self,
        _: UserId,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<Vec<(Timestamp, String, Sums)>, StoreError> {
        not_scripted()
    }
    async fn latency(&self, _: UserId, _: Day, _: Day) -> Result<Latency, StoreError> {
        not_scripted()
    }
    async fn history(
        &self,
        _: UserId,
        _: &HistoryFilter,
        _: Option<(Timestamp, RequestId)>,
        _: u32,
    ) -> Result<Vec<Charge>, StoreError> {
        not_scripted()
    }
    async fn last_used(&self, _: UserId) -> Result<Vec<(KeyId, Timestamp)>, StoreError> {
        not_scripted()
    }
    async fn user_counts(&self) -> Result<Vec<(PlanId, UserStatus, u64)>, StoreError> {
        not_scripted()
    }
    async fn totals_by_plan(&self, _: Day, _: Day) -> Result<Vec<(PlanId, u64, Sums)>, StoreError> {
        not_scripted()
    }
    async fn totals_by_model(&self, _: Day, _: Day) -> Result<Vec<(String, Sums)>, StoreError> {
        not_scripted()
    }
    async fn top_users(
        &self,
        _: Day,
        _: Day,
        _: TopBy,
        _: u32,
    ) -> Result<Vec<(User, Sums)>, StoreError> {
        not_scripted()
    }
    fn connections(&self) -> Connections {
        Connections { in_use: 0, open: 0, max: 0 }
    }
}
