//! The cache over a store that answers when the test says so.

use super::cache::CallerCache;
use domain::caller::Caller;
use domain::id::{KeyId, UserId};
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::StoreError;
use store::fake::{FakeStore, Query};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

type Answer = oneshot::Sender<Result<Option<Caller>, StoreError>>;
type Finding = JoinHandle<Result<Option<Arc<Caller>>, StoreError>>;

struct Setup {
    cache: Arc<CallerCache>,
    asked: mpsc::UnboundedReceiver<Query>,
    now: Instant,
}

impl Setup {
    fn new(capacity: usize) -> Self {
        let (store, asked) = FakeStore::new();
        let cache = Arc::new(CallerCache::new(store, capacity));
        Self { cache, asked, now: system::clock::instant() }
    }

    #[expect(clippy::disallowed_methods, reason = "a test joins what it spawns")]
    fn find(&self, key: &str, now: Instant) -> Finding {
        let (cache, key) = (Arc::clone(&self.cache), KeyId::from(key));
        tokio::spawn(async move { cache.find(&key, now).await })
    }

    async fn asked(&mut self) -> Answer {
        match self.asked.recv().await.unwrap() {
            Query::Caller(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    async fn load(&mut self, caller: &Caller) {
        let finding = self.find(caller.key.as_str(), self.now);
        self.asked().await.send(Ok(Some(caller.clone()))).unwrap();
        assert_eq!(finding.await.unwrap().unwrap().as_deref(), Some(caller));
    }

    /// What is cached; `None` when the store would be asked.
    fn cached(&self, key: &KeyId) -> Option<Option<Arc<Caller>>> {
        self.cache.find(key, self.now).now_or_never().map(Result::unwrap)
    }
}

fn caller(user: UserId, key: &str, version: u64) -> Caller {
    Caller { version, ..domain::testing::caller(user, key) }
}

#[tokio::test]
async fn many_who_ask_at_once_load_once() {
    let mut setup = Setup::new(10);
    let findings: Vec<Finding> = (0..50).map(|_| setup.find("key", setup.now)).collect();
    let answer = setup.asked().await;
    answer.send(Ok(Some(caller(UserId::new(), "key", 1)))).unwrap();
    for finding in findings {
        assert!(finding.await.unwrap().unwrap().is_some());
    }
    assert!(setup.asked.try_recv().is_err(), "the store was asked once");
}

#[tokio::test]
async fn a_failed_load_is_not_kept() {
    let mut setup = Setup::new(10);
    let finding = setup.find("key", setup.now);
    setup.asked().await.send(Err(StoreError::Unavailable("away".into()))).unwrap();
    finding.await.unwrap().unwrap_err();
    setup.load(&caller(UserId::new(), "key", 1)).await;
}

#[tokio::test]
async fn a_load_given_up_hands_over_to_the_next() {
    let mut setup = Setup::new(10);
    let first = setup.find("key", setup.now);
    let unanswered = setup.asked().await;
    let second = setup.find("key", setup.now);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    drop(unanswered);
    setup.asked().await.send(Ok(None)).unwrap();
    assert!(second.await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn an_absent_key_is_remembered_for_five_seconds() {
    let mut setup = Setup::new(10);
    let finding = setup.find("key", setup.now);
    setup.asked().await.send(Ok(None)).unwrap();
    assert!(finding.await.unwrap().unwrap().is_none());

    setup.now += Duration::from_millis(4_999);
    assert_eq!(setup.cached(&KeyId::from("key")), Some(None));
    setup.now += Duration::from_millis(1);
    setup.load(&caller(UserId::new(), "key", 1)).await;
}

#[tokio::test]
async fn forgetting_a_user_forgets_all_of_its_keys_and_no_others() {
    let mut setup = Setup::new(10);
    let (user, other) = (UserId::new(), UserId::new());
    let records = [caller(user, "a", 1), caller(user, "b", 1), caller(other, "c", 1)];
    for record in &records {
        setup.load(record).await;
    }
    setup.cache.forget(user);
    assert_eq!(setup.cached(&records[0].key), None);
    assert_eq!(setup.cached(&records[1].key), None);
    assert!(setup.cached(&records[2].key).is_some());
}

#[tokio::test]
async fn a_record_that_is_as_new_as_a_change_stays() {
    let mut setup = Setup::new(10);
    let user = UserId::new();
    let (older, newer) = (caller(user, "a", 1), caller(user, "b", 2));
    setup.load(&older).await;
    setup.load(&newer).await;
    setup.cache.forget_before(user, 2);
    assert_eq!(setup.cached(&older.key), None);
    assert!(setup.cached(&newer.key).is_some());
    setup.cache.forget_before(user, 3);
    assert_eq!(setup.cached(&newer.key), None);
}

#[tokio::test]
async fn a_record_read_before_the_user_was_forgotten_is_never_kept() {
    let mut setup = Setup::new(10);
    let user = UserId::new();
    let finding = setup.find("key", setup.now);
    let answer = setup.asked().await;
    setup.cache.forget(user);
    answer.send(Ok(Some(caller(user, "key", 1)))).unwrap();
    finding.await.unwrap().unwrap();

    let newer = caller(user, "key", 2);
    setup.load(&newer).await;
    let cached = setup.cached(&newer.key).unwrap().unwrap();
    assert_eq!(cached.version, 2);
}

#[tokio::test]
async fn a_record_is_kept_although_others_are_forgotten_while_it_is_loaded() {
    for (forgotten, is_kept) in [(1, true), (256, true), (257, false)] {
        let mut setup = Setup::new(10);
        let record = caller(UserId::new(), "key", 3);
        let finding = setup.find("key", setup.now);
        let answer = setup.asked().await;
        // A change that the record has already.
        setup.cache.forget_before(record.user, 3);
        (1..forgotten).for_each(|_| setup.cache.forget(UserId::new()));
        answer.send(Ok(Some(record.clone()))).unwrap();
        finding.await.unwrap().unwrap();
        assert_eq!(setup.cached(&record.key).is_some(), is_kept, "{forgotten}");
    }
}

#[tokio::test]
async fn a_record_of_a_version_before_a_change_is_not_kept() {
    let mut setup = Setup::new(10);
    let record = caller(UserId::new(), "key", 2);
    let finding = setup.find("key", setup.now);
    let answer = setup.asked().await;
    setup.cache.forget_before(record.user, 3);
    setup.cache.forget(UserId::new());
    answer.send(Ok(Some(record.clone()))).unwrap();
    finding.await.unwrap().unwrap();
    assert_eq!(setup.cached(&record.key), None);
}

#[tokio::test]
async fn a_small_cache_forgets_what_a_large_index_lists() {
    let mut setup = Setup::new(4);
    let user = UserId::new();
    let records: Vec<Caller> = (0..100).map(|n| caller(user, &format!("key{n}"), 1)).collect();
    for record in &records {
        setup.load(record).await;
    }
    setup.cache.forget(user);
    for record in &records {
        assert_eq!(setup.cached(&record.key), None);
        setup.asked.try_recv().expect("not cached, so the store was asked");
    }
}
