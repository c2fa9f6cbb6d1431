//! A store for tests: each query waits for a result from the test.

use super::{Callers, Entry, JournalPosition, Ledger, StoreError};
use async_trait::async_trait;
use domain::caller::Caller;
use domain::id::{KeyId, UserId};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A query of the code under test, with the sender for its answer.
#[derive(Debug)]
pub enum Query {
    Journal(Vec<Entry>, Option<JournalPosition>, Answer<()>),
    Position(Uuid, Answer<Option<u64>>),
    LatestPosition(Answer<Option<JournalPosition>>),
    DeadLetter(Answer<()>),
    Caller(Answer<Option<Caller>>),
}

pub struct FakeStore(mpsc::UnboundedSender<Query>);

impl FakeStore {
    /// The store, and the queries it receives.
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Query>) {
        let (sender, queries) = mpsc::unbounded_channel();
        (Arc::new(Self(sender)), queries)
    }

    async fn query<T>(&self, query: impl FnOnce(Answer<T>) -> Query) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        self.0.send(query(sender)).expect("the test receives queries");
        answer.await.expect("the test answers")
    }
}

#[async_trait]
impl Ledger for FakeStore {
    async fn write_batch(
        &self,
        batch: &[Entry],
        position: Option<JournalPosition>,
    ) -> Result<(), StoreError> {
        self.query(|answer| Query::Journal(batch.to_vec(), position, answer)).await
    }

    async fn position_in(&self, log: Uuid) -> Result<Option<u64>, StoreError> {
        self.query(|answer| Query::Position(log, answer)).await
    }

    async fn latest_position(&self) -> Result<Option<JournalPosition>, StoreError> {
        self.query(Query::LatestPosition).await
    }

    async fn dead_letter(&self, _: &str, _: &str, _: Timestamp) -> Result<(), StoreError> {
        self.query(Query::DeadLetter).await
    }
}

#[async_trait]
impl Callers for FakeStore {
    async fn caller(&self, _: &KeyId) -> Result<Option<Caller>, StoreError> {
        self.query(Query::Caller).await
    }

    async fn user_version(&self, _: UserId) -> Result<Option<u64>, StoreError> {
        Err(StoreError::Unavailable("the fake store has no versions".to_owned()))
    }
}
