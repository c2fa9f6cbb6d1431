//! The changes that are published to caches, and the users that they name.

use crate::backends::store::sqlite;
use crate::backends::store::{Any, add_user, by, new_key, new_user, plan};
use async_trait::async_trait;
use domain::id::{PlanId, UserId};
use std::sync::{Arc, Mutex};
use store::change_notifier::ChangeNotifier;
use store::{KeyChange, PlanChange, StoreError, UserChange};
use tempfile::TempDir;

/// Records what is published.
#[derive(Default)]
struct Published(Mutex<Vec<Option<UserId>>>);

#[async_trait]
impl ChangeNotifier for Published {
    async fn notify(&self, user: Option<UserId>) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(user);
        Ok(())
    }
}

impl Published {
    fn since(&self) -> Vec<Option<UserId>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn publishing_store() -> (Any, Arc<Published>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite::open(&folder.path().join("knockx.db")).await;
    let published = Arc::new(Published::default());
    (store.publishing(Arc::clone(&published) as _), published, folder)
}

#[tokio::test]
async fn every_change_that_a_call_must_notice_is_published() {
    let (store, published, _folder) = publishing_store().await;
    let user = add_user(&store, "a@b.c").await.id;
    assert_eq!(published.since(), [None], "the plan may have users");
    let by = by();

    store.change_user(user, &UserChange::default(), &by).await.unwrap();
    assert_eq!(published.since(), [Some(user)]);
    let key = store.add_key(user, &new_key("laptop"), &by).await.unwrap();
    assert_eq!(published.since(), [Some(user)]);
    store.change_key(user, &key.id, &KeyChange::default(), &by).await.unwrap();
    assert_eq!(published.since(), [Some(user)]);
    let key = store.replace_key(user, &new_key("laptop"), &by).await.unwrap();
    assert_eq!(published.since(), [Some(user)]);
    store.revoke_key(&key.id, &by).await.unwrap();
    assert_eq!(published.since(), [Some(user)]);
    let basic = plan("basic");
    store.change_plan(&basic.id, &PlanChange::default(), &by).await.unwrap();
    assert_eq!(published.since(), [None]);

    store.add_plan(&plan("big"), &by).await.unwrap();
    let asked = store.request_upgrade(user, &PlanId::from("big"), &by).await.unwrap();
    store.add_user(&new_user("d@e.f", "big"), &by).await.unwrap();
    assert_eq!(published.since(), [], "no cache can have it");
    for _ in 0..2 {
        store.decide_upgrade(asked.id, true, &by).await.unwrap();
        assert_eq!(published.since(), [Some(user)]);
    }
}
