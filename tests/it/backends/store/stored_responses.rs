//! The owners of responses that upstreams store.

use super::{Any, add_user, at};
use domain::cached_tokens::CachedTokenFraction;
use domain::id::{RequestId, UserId};
use domain::stored_response::StoredResponse;
use futures_util::future::join_all;

fn reply(id: &str, user: UserId) -> StoredResponse {
    StoredResponse {
        id: id.to_owned(),
        user,
        upstream: "xai".to_owned(),
        model: "grok-4.3".to_owned(),
        tokens: 10,
        unsettled: None,
        cached_token_fraction: CachedTokenFraction::from_thousandths(100).unwrap(),
        expires_at: at(1000),
    }
}

pub async fn an_id_recorded_for_two_users_belongs_to_neither(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    let other = add_user(&store, "d@e.f").await.id;
    let first = reply("resp_1", user);
    assert!(store.record_response(&first, at(1)).await.unwrap());
    assert_eq!(store.stored_response("resp_1", at(2)).await.unwrap(), Some(first.clone()));
    assert_eq!(store.stored_response("resp_2", at(2)).await.unwrap(), None);
    assert_eq!(store.stored_response("", at(2)).await.unwrap(), None);
    assert!(!store.record_response(&reply("resp_1", other), at(3)).await.unwrap());
    assert_eq!(store.stored_response("resp_1", at(4)).await.unwrap(), None);
    assert!(!store.claim_response("resp_1", at(4), at(9)).await.unwrap());
    assert!(!store.record_response(&first, at(5)).await.unwrap(), "it stays so");
    assert_eq!(store.stored_response("resp_1", at(6)).await.unwrap(), None);
    // Two upstreams may give the same id as well.
    let here = reply("resp_3", user);
    assert!(store.record_response(&here, at(1)).await.unwrap());
    let elsewhere = StoredResponse { upstream: "other".to_owned(), ..here };
    assert!(!store.record_response(&elsewhere, at(2)).await.unwrap());
    assert_eq!(store.stored_response("resp_3", at(3)).await.unwrap(), None);
    // What it meant is over with its time.
    let later = StoredResponse { expires_at: at(9000), ..reply("resp_1", other) };
    assert!(store.record_response(&later, at(1000)).await.unwrap());
    assert_eq!(store.stored_response("resp_1", at(1001)).await.unwrap(), Some(later));
}

pub async fn an_unsettled_charge_is_recorded_until_it_is_settled(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    let call = Some(RequestId::new());
    let owing = StoredResponse { unsettled: call, ..reply("resp_1", user) };
    assert!(store.record_response(&owing, at(1)).await.unwrap());
    assert_eq!(store.stored_response("resp_1", at(2)).await.unwrap(), Some(owing.clone()));
    let settled = StoredResponse { unsettled: None, tokens: 70, ..owing };
    assert!(store.record_response(&settled, at(3)).await.unwrap());
    assert_eq!(store.stored_response("resp_1", at(4)).await.unwrap(), Some(settled));
}

pub async fn recording_again_only_raises_tokens(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    let first = reply("resp_1", user);
    for (tokens, kept) in [(10, 10), (40, 40), (5, 40), (u64::MAX, i64::MAX as u64)] {
        let again = StoredResponse { tokens, expires_at: at(5000), ..first.clone() };
        let noted = if tokens == 10 { first.clone() } else { again };
        assert!(store.record_response(&noted, at(1)).await.unwrap());
        let found = store.stored_response("resp_1", at(1)).await.unwrap().unwrap();
        assert_eq!((found.tokens, found.expires_at), (kept, at(1000)));
    }
}

pub async fn a_stored_response_expires(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    for number in 0..40 {
        assert!(
            store.record_response(&reply(&format!("old_{number}"), user), at(1)).await.unwrap()
        );
    }
    assert!(store.stored_response("old_0", at(999)).await.unwrap().is_some());
    assert_eq!(store.stored_response("old_0", at(1000)).await.unwrap(), None);
    assert!(!store.claim_response("old_0", at(1000), at(1001)).await.unwrap());
    // Each new row takes some of the expired ones away.
    for number in 0..3 {
        let new = StoredResponse { expires_at: at(9000), ..reply(&format!("new_{number}"), user) };
        assert!(store.record_response(&new, at(1000)).await.unwrap());
    }
    for number in 0..40 {
        assert_eq!(store.stored_response(&format!("old_{number}"), at(1)).await.unwrap(), None);
    }
    assert!(store.stored_response("new_2", at(1)).await.unwrap().is_some());
}

pub async fn of_concurrent_claims_one_succeeds(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    assert!(!store.claim_response("none", at(1), at(9)).await.unwrap());
    store.record_response(&reply("once", user), at(1)).await.unwrap();
    let claims = join_all((0..8).map(|_| store.claim_response("once", at(2), at(9)))).await;
    assert_eq!(claims.into_iter().filter(|claim| *claim.as_ref().unwrap()).count(), 1);
    assert!(!store.claim_response("once", at(8), at(9)).await.unwrap());
    // One who went away has it no longer than it said.
    assert!(store.claim_response("once", at(9), at(20)).await.unwrap());
    store.release_response("once").await.unwrap();
    assert!(store.claim_response("once", at(10), at(20)).await.unwrap());
}

pub async fn a_deleted_response_is_gone(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    store.record_response(&reply("resp_1", user), at(1)).await.unwrap();
    store.delete_response("resp_1").await.unwrap();
    store.delete_response("resp_1").await.unwrap();
    assert_eq!(store.stored_response("resp_1", at(2)).await.unwrap(), None);
}
