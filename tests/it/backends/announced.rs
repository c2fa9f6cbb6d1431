//! Which changes are announced to those who keep copies, and of whom.

use super::sqlite;
use super::store::{Any, add_user, by, new_key, new_user, plan};
use async_trait::async_trait;
use knockx::account::id::{PlanId, UserId};
use knockx::store::announced::{Announced, Announcer};
use knockx::store::{KeyChange, PlanChange, StoreError, UserChange};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Remembers what it was told.
#[derive(Default)]
struct Told(Mutex<Vec<Option<UserId>>>);

#[async_trait]
impl Announcer for Told {
    async fn announce(&self, user: Option<UserId>) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(user);
        Ok(())
    }
}

impl Told {
    fn since(&self) -> Vec<Option<UserId>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn announced() -> (Any, Arc<Told>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite::open(&folder.path().join("knockx.db")).await;
    let told = Arc::new(Told::default());
    (Arc::new(Announced::new(store, Arc::clone(&told) as _)), told, folder)
}

#[tokio::test]
async fn every_change_that_a_call_must_notice_is_announced() {
    let (store, told, _folder) = announced().await;
    let user = add_user(&store, "a@b.c").await.id;
    assert_eq!(told.since(), [None], "the plan of which there may be users");
    let by = by();

    store.change_user(user, &UserChange::default(), &by).await.unwrap();
    assert_eq!(told.since(), [Some(user)]);
    let key = store.add_key(user, &new_key("laptop"), &by).await.unwrap();
    assert_eq!(told.since(), [Some(user)]);
    store.change_key(user, &key.id, &KeyChange::default(), &by).await.unwrap();
    assert_eq!(told.since(), [Some(user)]);
    let key = store.replace_key(user, &new_key("laptop"), &by).await.unwrap();
    assert_eq!(told.since(), [Some(user)]);
    store.revoke_key(&key.id, &by).await.unwrap();
    assert_eq!(told.since(), [Some(user)]);
    let basic = plan("basic");
    store.change_plan(&basic.id, &PlanChange::default(), &by).await.unwrap();
    assert_eq!(told.since(), [None]);

    store.add_plan(&plan("big"), &by).await.unwrap();
    let asked = store.ask_upgrade(user, &PlanId::from("big"), &by).await.unwrap();
    store.add_user(&new_user("d@e.f", "big"), &by).await.unwrap();
    assert_eq!(told.since(), [], "nobody can have copies of it");
    for _ in 0..2 {
        store.decide_upgrade(asked.id, true, &by).await.unwrap();
        assert_eq!(told.since(), [Some(user)]);
    }
}
