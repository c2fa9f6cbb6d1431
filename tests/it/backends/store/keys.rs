//! Keys, and the caller record behind each.

use super::sessions::{lives, open};
use super::{Any, add_user, at, by, charge, day, lease, new_key, plan, suspend};
use domain::actor::{Actor, AuditContext};
use domain::id::{KeyId, PlanId, UserId};
use domain::key::{Key, KeyLimits};
use domain::plan::{PlanLimits, Window};
use domain::user::{LimitOverrides, UserStatus};
use jiff::Timestamp;
use store::upgrades::UpgradeStatus;
use store::{
    Entry, KeyChange, KeyFilter, NewKey, REVOKED_KEYS, StoreError, UserChange, all_keys,
    key_position,
};

pub async fn a_key_added_twice_is_added_once(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let key = new_key("laptop");
    let added = store.add_key(user.id, &key, &by()).await.unwrap();
    let version = store.user_version(user.id).await.unwrap();
    assert_eq!(store.add_key(user.id, &key, &by()).await.unwrap(), added);
    assert_eq!(store.user_version(user.id).await.unwrap(), version);
    assert_eq!(all_keys(&*store, user.id).await.unwrap(), [added]);

    store.add_key(other.id, &key, &by()).await.unwrap_err();
    let orphan = store.add_key(UserId::new(), &new_key("orphan"), &by()).await;
    assert!(matches!(orphan, Err(StoreError::Missing("user"))), "{orphan:?}");
}

pub async fn keys_are_found_by_id_and_by_last_four(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let named = |last_four: &str, created| NewKey {
        last_four: last_four.to_owned(),
        created_at: at(created),
        ..new_key("laptop")
    };
    let mut keys = Vec::new();
    for (owner, key) in
        [(&user, named("aaaa", 1)), (&other, named("aaaa", 2)), (&user, named("AAAA", 3))]
    {
        keys.push((owner.id, store.add_key(owner.id, &key, &by()).await.unwrap()));
    }
    let found = store.find_keys("aaaa", 10).await.unwrap();
    assert_eq!(found, [keys[1].clone(), keys[0].clone()]);
    assert_eq!(store.find_keys("aaaa", 1).await.unwrap(), [keys[1].clone()]);
    let revoked = store.revoke_key(&keys[2].1.id, &by()).await.unwrap().unwrap();
    let found = store.find_keys(keys[2].1.id.as_str(), 10).await.unwrap();
    assert_eq!(found, [(user.id, revoked)]);
    for nothing in ["", "aaa", "%"] {
        assert_eq!(store.find_keys(nothing, 10).await.unwrap(), [], "{nothing}");
    }
}

pub async fn keys_are_listed_the_oldest_first(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    for (name, created) in [("second", 2), ("third", 3), ("first", 1)] {
        let key = NewKey { created_at: at(created), ..new_key(name) };
        store.add_key(user.id, &key, &by()).await.unwrap();
    }
    let keys = all_keys(&*store, user.id).await.unwrap();
    let names: Vec<&str> = keys.iter().map(|key| &*key.name).collect();
    assert_eq!(names, ["first", "second", "third"]);
}

pub async fn keys_come_in_pages_and_are_one_users(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    // Three of the same moment: their ids decide.
    let mut expected = Vec::new();
    for created in [1, 2, 2, 2, 3] {
        let key = NewKey { created_at: at(created), ..new_key("laptop") };
        expected.push((at(created), store.add_key(user.id, &key, &by()).await.unwrap().id));
    }
    expected.sort();
    let theirs = store.add_key(other.id, &new_key("laptop"), &by()).await.unwrap();
    let (mut filter, mut found) = (KeyFilter::default(), Vec::new());
    loop {
        let page = store.keys(user.id, &filter, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        filter.after = Some(key_position(last));
        found.extend(page.iter().map(key_position));
    }
    assert_eq!(found, expected);

    store.revoke_key(&expected[1].1, &by()).await.unwrap();
    let filter = KeyFilter { live: true, after: None };
    let live = store.keys(user.id, &filter, 200).await.unwrap();
    let live: Vec<_> = live.iter().map(key_position).collect();
    expected.remove(1);
    assert_eq!(live, expected);

    let one = store.key(other.id, &theirs.id).await.unwrap();
    assert_eq!(one.as_ref(), Some(&theirs));
    assert_eq!(store.key(user.id, &theirs.id).await.unwrap(), None);
    assert_eq!(store.key(user.id, &KeyId::from("unknown")).await.unwrap(), None);
}

pub async fn revoked_keys_of_a_user_are_bounded(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let theirs = store.add_key(other.id, &new_key("default"), &by()).await.unwrap();
    store.revoke_key(&theirs.id, &AuditContext::operator(at(0))).await.unwrap();
    let named = store.add_key(user.id, &new_key("laptop"), &by()).await.unwrap();
    let first = store
        .replace_key(user.id, &new_key("default"), &AuditContext::operator(at(1)))
        .await
        .unwrap();
    let times = i64::from(REVOKED_KEYS) + 3;
    for second in 2..2 + times {
        let by = AuditContext::operator(at(second));
        store.replace_key(user.id, &new_key("default"), &by).await.unwrap();
    }
    let keys = all_keys(&*store, user.id).await.unwrap();
    let revoked = keys.iter().filter(|key| key.revoked_at.is_some()).count();
    assert_eq!((revoked, keys.len()), (REVOKED_KEYS as usize, REVOKED_KEYS as usize + 2));
    let has = |id: &KeyId| keys.iter().any(|key| key.id == *id);
    assert!(has(&named.id) && !has(&first.id), "live ones stay, the first revoked goes");
    let others = all_keys(&*store, other.id).await.unwrap();
    assert_eq!(others.len(), 1, "nobody else's keys go");
}

/// So many days after the first second.
fn days(days: i64) -> Timestamp {
    at(days * 86_400)
}

pub async fn what_is_past_its_time_is_pruned(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    store.create_partitions(day("2026-01-01")).await.unwrap();
    let mut kept = Vec::new();
    for (revoked, expires_at, stays) in [
        (Some(days(9)), None, false),
        (None, Some(days(9)), false),
        (Some(days(9)), Some(days(300)), false),
        (Some(days(11)), None, true),
        (None, Some(days(11)), true),
        (None, None, true),
    ] {
        let key = NewKey { expires_at, ..new_key("laptop") };
        store.add_key(user.id, &key, &by()).await.unwrap();
        if let Some(at) = revoked {
            store.revoke_key(&key.id, &AuditContext::operator(at)).await.unwrap();
        }
        kept.extend(stays.then_some(key.id));
    }
    let charge = charge(&lease(&user, "gone", 10), 3, 4);
    store.write_batch(&[Entry::Settle(charge.clone())], None).await.unwrap();
    let on = charge.day;
    assert_eq!(store.usage_by_quarter_hour(user.id, on).await.unwrap().len(), 1);
    assert_eq!(store.prune(days(7)).await.unwrap(), 0);
    assert_eq!(store.usage_by_quarter_hour(user.id, on).await.unwrap().len(), 1);

    let by_day = store.usage_by_day(user.id, on, on).await.unwrap();
    assert_eq!(store.prune(days(100)).await.unwrap(), 4, "three keys and a quarter of an hour");
    assert_eq!(store.prune(days(100)).await.unwrap(), 0);
    let mut left: Vec<_> =
        all_keys(&*store, user.id).await.unwrap().into_iter().map(|key| key.id).collect();
    left.sort();
    kept.sort();
    assert_eq!(left, kept);
    // What was charged stays, with the id of its key.
    assert_eq!(store.usage_by_day(user.id, on, on).await.unwrap(), by_day);
    let row = store.charge(charge.request).await.unwrap().unwrap();
    assert_eq!(row.key, KeyId::from("gone"));
    assert_eq!(store.rollup_drift(on).await.unwrap(), []);
}

pub async fn pruning_goes_on_until_nothing_is_left(store: Any) {
    store.sync_plans(&[plan("big"), plan("huge")], &by()).await.unwrap();
    let user = add_user(&store, "a@b.c").await;
    let other = add_user(&store, "b@b.c").await;
    for second in 0..4 {
        for to in ["big", "huge"] {
            let by = AuditContext { actor: Actor::User(user.id), at: at(second), request_id: None };
            store.request_upgrade(user.id, &PlanId::from(to), &by).await.unwrap();
        }
    }
    let asked = store.upgrades(None, None, 100).await.unwrap();
    let replaced =
        asked.iter().filter(|asked| asked.status == UpgradeStatus::Superseded).count() as u64;
    assert_eq!(replaced, 7);
    // Sessions of others who have not logged in since.
    let session = open(&store, other.id).await;
    assert!(lives(&store, session, at(50)).await);
    assert_eq!(store.prune(at(99)).await.unwrap(), 0);
    assert_eq!(store.prune(days(200)).await.unwrap(), replaced + 1);
    let left = store.upgrades(None, None, 100).await.unwrap();
    assert_eq!(left.len() as u64, asked.len() as u64 - replaced);
    assert!(!lives(&store, session, at(50)).await);
    assert_eq!(store.prune(days(200)).await.unwrap(), 0);
}

pub async fn a_key_is_changed_while_it_lives(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let key = store.add_key(user.id, &new_key("laptop"), &by()).await.unwrap();
    let version = store.user_version(user.id).await.unwrap().unwrap();

    let renamed = KeyChange { name: Some("desk".to_owned()), ..KeyChange::default() };
    let changed = store.change_key(user.id, &key.id, &renamed, &by()).await.unwrap().unwrap();
    assert_eq!(changed, Key { name: "desk".to_owned(), ..key.clone() });
    let rest = KeyChange {
        expires_at: Some(None),
        tokens_per_day: Some(None),
        requests_per_day: Some(Some(3)),
        ..KeyChange::default()
    };
    let models = changed.limits.models.clone();
    assert!(changed.limits.tokens_per_day.is_some() && models.is_some());
    let limits = KeyLimits { tokens_per_day: None, requests_per_day: Some(3), models };
    let changed = store.change_key(user.id, &key.id, &rest, &by()).await.unwrap().unwrap();
    assert_eq!(changed, Key { expires_at: None, limits, ..changed.clone() });
    assert_eq!(all_keys(&*store, user.id).await.unwrap(), std::slice::from_ref(&changed));
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(version + 2));

    for nothing in [rest, KeyChange::default()] {
        let same = store.change_key(user.id, &key.id, &nothing, &by()).await.unwrap();
        assert_eq!(same.as_ref(), Some(&changed));
    }
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(version + 2));

    let unknown = KeyId::from("unknown");
    assert_eq!(store.change_key(other.id, &key.id, &renamed, &by()).await.unwrap(), None);
    assert_eq!(store.change_key(user.id, &unknown, &renamed, &by()).await.unwrap(), None);
    let revoked = store.revoke_key(&key.id, &by()).await.unwrap().unwrap();
    assert_eq!(store.change_key(user.id, &key.id, &renamed, &by()).await.unwrap(), None);
    assert_eq!(all_keys(&*store, user.id).await.unwrap(), [revoked]);
}

/// The ids of a user's keys that are not revoked, in order.
async fn live(store: &Any, user: UserId) -> Vec<KeyId> {
    let keys = all_keys(&**store, user).await.unwrap();
    keys.into_iter().filter(|key| key.revoked_at.is_none()).map(|key| key.id).collect()
}

pub async fn a_replaced_key_takes_the_place_of_its_namesakes(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let theirs = store.add_key(other.id, &new_key("laptop"), &by()).await.unwrap();
    let created = |at, name| NewKey { created_at: at, ..new_key(name) };
    let olds = [created(at(1), "laptop"), created(at(2), "laptop"), created(at(3), "laptop")];
    for old in &olds {
        store.add_key(user.id, old, &by()).await.unwrap();
    }
    let desk = store.add_key(user.id, &created(at(4), "desk"), &by()).await.unwrap();
    store.revoke_key(&olds[0].id, &AuditContext::operator(at(5))).await.unwrap();
    let version = store.user_version(user.id).await.unwrap().unwrap();

    let new = created(at(6), "laptop");
    let added = store.replace_key(user.id, &new, &AuditContext::operator(at(7))).await.unwrap();
    assert_eq!((&added.id, added.revoked_at), (&new.id, None));
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(version + 1));
    assert_eq!(live(&store, user.id).await, [desk.id, added.id]);
    assert_eq!(live(&store, other.id).await, [theirs.id]);
    let revoked: Vec<_> =
        all_keys(&*store, user.id).await.unwrap().into_iter().map(|key| key.revoked_at).collect();
    assert_eq!(revoked, [Some(at(5)), Some(at(7)), Some(at(7)), None, None]);

    let orphan = store.replace_key(UserId::new(), &new_key("orphan"), &by()).await;
    assert!(matches!(orphan, Err(StoreError::Missing("user"))), "{orphan:?}");
    store.replace_key(other.id, &new, &by()).await.unwrap_err();
}

pub async fn replacing_again_revokes_nothing_more(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let (first, second) = (new_key("laptop"), new_key("laptop"));
    let added = store.replace_key(user.id, &first, &by()).await.unwrap();
    let version = store.user_version(user.id).await.unwrap();
    assert_eq!(store.replace_key(user.id, &first, &by()).await.unwrap(), added);
    assert_eq!(store.user_version(user.id).await.unwrap(), version);
    store.replace_key(user.id, &second, &by()).await.unwrap();
    let late = store.replace_key(user.id, &first, &by()).await.unwrap();
    assert_eq!(late.revoked_at, Some(at(9)));
    assert_eq!(live(&store, user.id).await, [second.id]);
}

pub async fn a_rotated_key_takes_the_place_of_one_key(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let created = |second| NewKey { created_at: at(second), expires_at: None, ..new_key("laptop") };
    let old = store.add_key(user.id, &created(1), &by()).await.unwrap();
    let namesake = store.add_key(user.id, &created(2), &by()).await.unwrap();
    let version = store.user_version(user.id).await.unwrap().unwrap();
    let rotate = async |owner: UserId, old: &KeyId, ends_at, new: &NewKey, second| {
        let by = AuditContext::operator(at(second));
        store.rotate_key(owner, (old, ends_at), new, &by).await.unwrap()
    };

    let new = created(3);
    let added = rotate(user.id, &old.id, None, &new, 4).await.unwrap();
    assert_eq!((&added.id, added.revoked_at), (&new.id, None));
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(version + 1));
    assert_eq!(live(&store, user.id).await, [namesake.id.clone(), added.id.clone()]);
    let revoked = store.key(user.id, &old.id).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(at(4)));
    // The same rotation again changes nothing, another one of the revoked key does nothing.
    assert_eq!(rotate(user.id, &old.id, None, &new, 5).await, Some(added.clone()));
    assert_eq!(rotate(user.id, &old.id, None, &created(5), 5).await, None);
    assert_eq!(rotate(other.id, &added.id, None, &created(5), 5).await, None);
    assert_eq!(rotate(user.id, &KeyId::from("unknown"), None, &created(5), 5).await, None);
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(version + 1));

    // An old key that goes on for a while never outlives its own expiry.
    let next = created(6);
    rotate(user.id, &added.id, Some(at(90)), &next, 7).await.unwrap();
    let expiry = async |id: &KeyId| store.key(user.id, id).await.unwrap().unwrap().expires_at;
    assert_eq!(expiry(&added.id).await, Some(at(90)));
    rotate(user.id, &added.id, Some(at(95)), &created(8), 8).await.unwrap();
    assert_eq!(expiry(&added.id).await, Some(at(90)));
    assert_eq!(expiry(&next.id).await, None);
}

pub async fn revoking_twice_keeps_the_first_time(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let key = store.add_key(user.id, &new_key("laptop"), &by()).await.unwrap();
    let revoked = store.revoke_key(&key.id, &AuditContext::operator(at(5))).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(at(5)));
    let version = store.user_version(user.id).await.unwrap();
    assert_eq!(
        store.revoke_key(&key.id, &AuditContext::operator(at(6))).await.unwrap(),
        Some(revoked)
    );
    assert_eq!(store.user_version(user.id).await.unwrap(), version);
    assert_eq!(
        store.revoke_key(&KeyId::from("unknown"), &AuditContext::operator(at(6))).await.unwrap(),
        None
    );
}

pub async fn the_caller_record_holds_key_user_and_plan(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let key = new_key("laptop");
    store.add_key(user.id, &key, &by()).await.unwrap();
    let caller = store.caller(&key.id).await.unwrap().unwrap();
    assert_eq!((caller.user, &caller.key, caller.digest), (user.id, &key.id, key.digest));
    assert_eq!((caller.user_status, caller.key_revoked), (UserStatus::Active, false));
    assert_eq!((caller.key_expires_at, &caller.key_limits), (key.expires_at, &key.limits));
    assert_eq!((caller.plan, caller.plan_limits), (PlanId::from("basic"), plan("basic").limits));
    assert_eq!(caller.version, user.version + 1);

    suspend(&store, user.id).await;
    store.revoke_key(&key.id, &by()).await.unwrap();
    let caller = store.caller(&key.id).await.unwrap().unwrap();
    assert_eq!((caller.user_status, caller.key_revoked), (UserStatus::Suspended, true));
}

pub async fn the_callers_limits_are_the_users_own_over_the_plans(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let key = store.add_key(user.id, &new_key("laptop"), &by()).await.unwrap();
    let window = Window { capacity: 9, refill_seconds: 1 };
    let overrides = LimitOverrides {
        tokens_per_day: Some(5_000),
        window: Some(window),
        models: Some(["grok-3".into()].into()),
        ..LimitOverrides::default()
    };
    let change = UserChange { overrides: Some(overrides), ..UserChange::default() };
    let changed = store.change_user(user.id, &change, &by()).await.unwrap().unwrap();
    let expected = PlanLimits {
        tokens_per_day: 5_000,
        window,
        models: Some(["grok-3".into()].into()),
        ..plan("basic").limits
    };
    let caller = store.caller(&key.id).await.unwrap().unwrap();
    assert_eq!((caller.plan_limits, caller.version), (expected, changed.version));

    let none = Some(LimitOverrides::default());
    let change = UserChange { overrides: none, ..UserChange::default() };
    store.change_user(user.id, &change, &by()).await.unwrap();
    let caller = store.caller(&key.id).await.unwrap().unwrap();
    assert_eq!(caller.plan_limits, plan("basic").limits);
}
