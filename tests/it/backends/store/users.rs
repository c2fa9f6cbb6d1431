//! Users.

use super::{Any, add_user, at, by, changed, new_key, new_user, plan, server_secret, suspend};
use domain::actor::{Actor, AuditContext};
use domain::id::{KeyId, PlanId, RequestId, SessionId, UpgradeId, UserId};
use domain::plan::{Plan, PlanLimits, Window};
use domain::user::{LimitOverrides, Role, User, UserStatus};
use futures_util::future::join_all;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::sync::Arc;
use store::audit::AuditFilter;
use store::{NewUser, UserChange, UserError, UserFilter, all_keys};

pub async fn a_user_is_found_by_id_and_by_email(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    assert_eq!((user.role, user.status), (Role::User, UserStatus::Active));
    assert_eq!((user.created_at, &user.username), (at(0), &None));
    assert!(user.overrides.is_empty());
    assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
    let found = store.users_by_ids(&[user.id, UserId::new()]).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&user));
    assert_eq!(store.users_by_ids(&[]).await.unwrap(), []);
    assert_eq!(store.user_by_email("a@b.c").await.unwrap(), Some(user));
}

pub async fn an_email_is_taken_once(store: Any) {
    add_user(&store, "a@b.c").await;
    let again = store.add_user(&new_user("a@b.c", "basic"), &by()).await;
    assert!(matches!(again, Err(UserError::EmailTaken)), "{again:?}");
}

pub async fn of_two_concurrent_registrations_only_one_succeeds(store: Any) {
    store.sync_plans(&[plan("basic")], &by()).await.unwrap();
    let both = [new_user("a@b.c", "basic"), new_user("a@b.c", "basic")];
    let by = by();
    let added = join_all(both.iter().map(|user| store.add_user(user, &by))).await;
    let told = |r: &&Result<User, UserError>| matches!(r, Err(UserError::EmailTaken));
    assert_eq!(added.iter().filter(told).count(), 1, "{added:?}");
    let added = added.into_iter().find_map(Result::ok).unwrap();
    assert_eq!(store.users(&UserFilter::default(), None, 9).await.unwrap(), [added]);
}

fn named(email: &str, username: &str) -> NewUser {
    NewUser { username: Some(username.to_owned()), ..new_user(email, "basic") }
}

pub async fn a_username_is_taken_once_in_any_case(store: Any) {
    let other = add_user(&store, "1@b.c").await;
    add_user(&store, "2@b.c").await;
    let ada = store.add_user(&named("ada@b.c", "ada"), &by()).await.unwrap();
    assert_eq!(ada.username.as_deref(), Some("ada"));
    for taken in ["ada", "Ada"] {
        let again = store.add_user(&named("3@b.c", taken), &by()).await;
        assert!(matches!(again, Err(UserError::UsernameTaken)), "{again:?}");
        let change = UserChange { username: Some(Some(taken.to_owned())), ..UserChange::default() };
        let again = store.change_user(other.id, &change, &by()).await;
        assert!(matches!(again, Err(UserError::UsernameTaken)), "{again:?}");
    }
    let nameless = UserChange { username: Some(None), ..UserChange::default() };
    let changed = store.change_user(ada.id, &nameless, &by()).await.unwrap().unwrap();
    assert_eq!(changed.username, None);
    store.add_user(&named("3@b.c", "Ada"), &by()).await.unwrap();
}

pub async fn a_user_needs_a_plan_that_exists(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let added = store.add_user(&new_user("d@e.f", "gone"), &by()).await;
    assert!(matches!(added, Err(UserError::NoSuchPlan(_))), "{added:?}");
    let change = UserChange { plan: Some(PlanId::from("gone")), ..UserChange::default() };
    let changed = store.change_user(user.id, &change, &by()).await;
    assert!(matches!(changed, Err(UserError::NoSuchPlan(_))), "{changed:?}");
    assert_eq!(store.user(user.id).await.unwrap(), Some(user));
}

pub async fn a_change_updates_only_the_named_fields(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    store.sync_plans(&[plan("other")], &by()).await.unwrap();
    let change = UserChange {
        email: Some("new@b.c".to_owned()),
        username: Some(Some("ada".to_owned())),
        plan: Some(PlanId::from("other")),
        role: Some(Role::Admin),
        ..UserChange::default()
    };
    let expected = User {
        email: "new@b.c".to_owned(),
        username: Some("ada".to_owned()),
        plan: PlanId::from("other"),
        role: Role::Admin,
        version: user.version + 1,
        ..user.clone()
    };
    let changed = store.change_user(user.id, &change, &by()).await.unwrap();
    assert_eq!(changed.as_ref(), Some(&expected));
    assert_eq!(store.user_by_email("new@b.c").await.unwrap(), changed);
    assert_eq!(store.user_by_email("a@b.c").await.unwrap(), None);
    let same = store.change_user(user.id, &UserChange::default(), &by()).await.unwrap();
    assert_eq!(same, Some(User { version: user.version + 2, ..expected }));
}

pub async fn a_refused_change_changes_nothing(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    add_user(&store, "taken@b.c").await;
    let change = UserChange {
        email: Some("taken@b.c".to_owned()),
        role: Some(Role::Admin),
        ..UserChange::default()
    };
    let before = store.changes(0).await.unwrap();
    let refused = store.change_user(user.id, &change, &by()).await;
    assert!(matches!(refused, Err(UserError::EmailTaken)), "{refused:?}");
    assert_eq!(store.user(user.id).await.unwrap(), Some(user));
    assert_eq!(store.changes(0).await.unwrap(), before);
}

pub async fn users_come_in_pages(store: Any) {
    let mut all = Vec::new();
    for n in 0..5 {
        all.push(add_user(&store, &format!("{n}@b.c")).await);
    }
    let any = UserFilter::default();
    all.sort_by_key(|user| user.id);
    let first = store.users(&any, None, 3).await.unwrap();
    let rest = store.users(&any, Some(first[2].id), 3).await.unwrap();
    assert_eq!([first, rest].concat(), all);
}

/// The e-mails of those that a search finds.
async fn found(store: &Any, search: &str) -> Vec<String> {
    let filter = UserFilter { search: Some(search.to_owned()), ..UserFilter::default() };
    let users = store.users(&filter, None, 9).await.unwrap();
    users.into_iter().map(|user| user.email).collect()
}

pub async fn users_are_found_by_part_of_email_or_username(store: Any) {
    add_user(&store, "ada@one.example").await;
    for (email, username) in [("b@two.example", "Lovelace"), ("c_d%e\\@two.example", "x_y")] {
        store.add_user(&named(email, username), &by()).await.unwrap();
    }
    let (ada, lovelace, odd) = ("ada@one.example", "b@two.example", "c_d%e\\@two.example");
    for (search, expected) in [
        ("ADA@", vec![ada]),
        ("one.", vec![ada]),
        ("LOVE", vec![lovelace]),
        ("lovelace", vec![lovelace]),
        ("TWO", vec![lovelace, odd]),
        ("", vec![ada, lovelace, odd]),
        ("b", vec![lovelace]),
        ("C_", vec![odd]),
        ("lo", vec![lovelace]),
        ("wo", vec![]),
        ("_", vec![]),
        ("%", vec![]),
        ("\\", vec![]),
        ("_d%", vec![odd]),
        ("%e\\", vec![odd]),
        ("d%e\\", vec![odd]),
        ("x_y", vec![odd]),
        ("a_a", vec![]),
        ("a%e", vec![]),
        ("'", vec![]),
        ("\0", vec![]),
        ("ümlaut", vec![]),
    ] {
        assert_eq!(found(&store, search).await, expected, "{search:?}");
    }
}

pub async fn users_are_filtered_by_role_status_and_plan(store: Any) {
    let plain = add_user(&store, "1@b.c").await;
    store.sync_plans(&[plan("other")], &by()).await.unwrap();
    let other = store.add_user(&new_user("2@b.c", "other"), &by()).await.unwrap();
    let boss = NewUser { role: Role::Admin, ..new_user("3@b.c", "other") };
    let boss = store.add_user(&boss, &by()).await.unwrap();
    let gone =
        suspend(&store, store.add_user(&new_user("4@b.c", "other"), &by()).await.unwrap().id).await;

    let all = UserFilter::default();
    let (on_other, others) = (Some(PlanId::from("other")), PlanId::from("other"));
    let suspended = Some(UserStatus::Suspended);
    for (filter, expected) in [
        (UserFilter { plan: on_other.clone(), ..all.clone() }, vec![&other, &boss, &gone]),
        (UserFilter { plan: Some(PlanId::from("none")), ..all.clone() }, vec![]),
        (UserFilter { status: suspended, ..all.clone() }, vec![&gone]),
        (UserFilter { role: Some(Role::Admin), ..all.clone() }, vec![&boss]),
        (UserFilter { role: Some(Role::Admin), status: suspended, ..all.clone() }, vec![]),
        (UserFilter { search: Some("2@".into()), plan: Some(others), ..all.clone() }, vec![&other]),
        (all, vec![&plain, &other, &boss, &gone]),
    ] {
        let found = store.users(&filter, None, 9).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        let rest = store.users(&filter, found.first().map(|user| user.id), 9).await.unwrap();
        assert_eq!(rest.len(), found.len().saturating_sub(1));
    }
}

pub async fn two_admins_cannot_demote_each_other(store: Any) {
    add_user(&store, "a@b.c").await;
    let admin = |email: &str| NewUser { role: Role::Admin, ..new_user(email, "basic") };
    let one = store.add_user(&admin("1@b.c"), &by()).await.unwrap().id;
    let two = store.add_user(&admin("2@b.c"), &by()).await.unwrap().id;
    let demotion = UserChange { role: Some(Role::User), ..UserChange::default() };
    let suspension = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    let of = |admin: UserId| AuditContext { actor: Actor::User(admin), ..by() };
    let (by_one, by_two) = (of(one), of(two));
    let (first, second) = tokio::join!(
        store.change_user(two, &demotion, &by_one),
        store.change_user(one, &suspension, &by_two),
    );
    let refused = [&first, &second].map(|outcome| matches!(outcome, Err(UserError::LastAdmin)));
    assert!(refused[0] != refused[1], "{first:?} {second:?}");
    let admins = UserFilter { role: Some(Role::Admin), ..UserFilter::default() };
    let left = store.users(&admins, None, 9).await.unwrap();
    let active = left.iter().find(|user| user.status == UserStatus::Active).unwrap();
    // The operator has other ways in.
    assert!(store.change_user(active.id, &suspension, &by()).await.unwrap().is_some());
}

pub async fn an_address_that_was_given_up_is_reserved_for_a_day(store: Any) {
    let secret = server_secret();
    let user = add_user(&store, "a@b.c").await.id;
    let own = |hour: i64| {
        let at = at(9) + SignedDuration::from_hours(hour);
        AuditContext { actor: Actor::User(user), at, ..by() }
    };
    let to = |email: &str| UserChange {
        email: Some(email.to_owned()),
        secret: Some(secret.clone()),
        ..UserChange::default()
    };
    let register = async |email: &str, hour: i64| {
        let at = at(9) + SignedDuration::from_hours(hour);
        let by = AuditContext { actor: Actor::Gateway, at, ..by() };
        store.register_user(&new_user(email, "basic"), &secret, &by).await
    };
    let reserved = |hour: i64| at(9) + SignedDuration::from_hours(hour + 25);

    // Of an account that lives on, which may take it back.
    store.change_user(user, &to("n@b.c"), &own(0)).await.unwrap();
    let refused = register("a@b.c", 24).await;
    assert!(matches!(refused, Err(UserError::AddressReserved(until)) if until == reserved(0)));
    store.change_user(user, &to("a@b.c"), &own(1)).await.unwrap();
    // Of a deleted account.
    store.erase_user(user, &secret, &own(2)).await.unwrap();
    let refused = register("a@b.c", 26).await;
    assert!(matches!(refused, Err(UserError::AddressReserved(until)) if until == reserved(2)));
    // Another user cannot change to it either, but an admin decides otherwise.
    let other = register("o@b.c", 3).await.unwrap();
    let by_other = AuditContext { actor: Actor::User(other.id), ..own(3) };
    let refused = store.change_user(other.id, &to("a@b.c"), &by_other).await;
    assert!(matches!(refused, Err(UserError::AddressReserved(_))), "{refused:?}");
    assert!(store.change_user(other.id, &to("n@b.c"), &by()).await.unwrap().is_some());
    assert!(register("a@b.c", 27).await.is_ok(), "the day is over");
    assert!(store.prune(reserved(30)).await.unwrap() > 0);
    assert!(register("o@b.c", 4).await.is_ok(), "pruned");
}

pub async fn every_change_raises_the_version_and_is_published_once(store: Any) {
    let (one, two) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let start = store.changes(0).await.unwrap();
    assert_eq!(start.users, [changed(&one, 0), changed(&two, 0)]);
    assert_eq!(store.changes(start.upto).await.unwrap().users, []);

    let suspended = suspend(&store, one.id).await;
    let expected = User { status: UserStatus::Suspended, version: one.version + 1, ..one.clone() };
    assert_eq!(suspended, expected);
    let key = store.add_key(two.id, &new_key("first"), &by()).await.unwrap();
    store.revoke_key(&key.id, &by()).await.unwrap();
    assert_eq!(store.user_version(two.id).await.unwrap(), Some(two.version + 2));

    let told = store.changes(start.upto).await.unwrap();
    assert_eq!(told.users, [changed(&one, 1), changed(&two, 2)]);
    let nothing = store.changes(told.upto).await.unwrap();
    assert_eq!((nothing.upto, nothing.users.len()), (told.upto, 0));
}

pub async fn limits_of_a_user_can_be_set_and_removed(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let some = LimitOverrides {
        tokens_per_day: Some(u64::try_from(i64::MAX).unwrap()),
        window: Some(Window { capacity: 9, refill_seconds: 1 }),
        models: Some(Arc::from([Arc::from("grok-4")])),
        ..LimitOverrides::default()
    };
    let all = LimitOverrides {
        requests_per_day: Some(0),
        concurrent_streams: Some(u32::MAX),
        ..some.clone()
    };
    for overrides in [some, all, LimitOverrides::default()] {
        let change = UserChange { overrides: Some(overrides.clone()), ..UserChange::default() };
        let changed = store.change_user(user.id, &change, &by()).await.unwrap().unwrap();
        assert_eq!(changed.overrides, overrides);
        let other = UserChange { role: Some(Role::User), ..UserChange::default() };
        store.change_user(user.id, &other, &by()).await.unwrap();
        assert_eq!(store.user(user.id).await.unwrap().unwrap().overrides, overrides);
    }
    let endless = LimitOverrides { tokens_per_day: Some(u64::MAX), ..LimitOverrides::default() };
    let change = UserChange { overrides: Some(endless), ..UserChange::default() };
    let changed = store.change_user(user.id, &change, &by()).await.unwrap().unwrap();
    assert_eq!(changed.overrides.tokens_per_day, Some(i64::MAX.unsigned_abs()));
}

/// In either direction, and whoever changes the plan; where it is the same day the plan's zone holds.
pub async fn a_change_of_time_zone_keeps_the_current_day(store: Any) {
    let in_zone = |id: &str, zone: &str| {
        let plan = plan(id);
        let limits = PlanLimits { time_zone: TimeZone::get(zone).unwrap(), ..plan.limits };
        Plan { limits, ..plan }
    };
    let plans = [in_zone("basic", "UTC"), in_zone("kolkata", "Asia/Kolkata")];
    store.sync_plans(&plans, &by()).await.unwrap();
    let user = store.add_user(&new_user("a@b.c", "basic"), &by()).await.unwrap();
    let key = store.add_key(user.id, &new_key("first"), &by()).await.unwrap().id;
    for (plan, time, zone) in [
        ("kolkata", "2026-01-02T19:00:00Z", "UTC"),
        ("basic", "2026-01-02T19:01:00Z", "UTC"),
        ("kolkata", "2026-01-03T12:00:00Z", "Asia/Kolkata"),
        ("basic", "2026-01-03T19:00:00Z", "Asia/Kolkata"),
        // At midnight of its own zone it is the same day elsewhere only hours later.
        ("kolkata", "2026-01-03T23:00:00Z", "Asia/Kolkata"),
        ("basic", "2026-01-04T12:00:00Z", "UTC"),
    ] {
        let by = AuditContext::operator(time.parse().unwrap());
        let change = UserChange { plan: Some(PlanId::from(plan)), ..UserChange::default() };
        store.change_user(user.id, &change, &by).await.unwrap().unwrap();
        // What an admin gives takes nothing from it.
        let own = LimitOverrides { requests_per_day: Some(3), ..LimitOverrides::default() };
        let change = UserChange { overrides: Some(own), ..UserChange::default() };
        store.change_user(user.id, &change, &by).await.unwrap().unwrap();
        let caller = store.caller(&key).await.unwrap().unwrap();
        let found = caller.plan_limits.time_zone.iana_name();
        assert_eq!(found, Some(zone), "{plan} at {time}");
    }
}

pub async fn lookups_in_an_empty_store_return_nothing(store: Any) {
    store.ping().await.unwrap();
    assert_eq!(store.user(UserId::new()).await.unwrap(), None);
    assert_eq!(store.user_by_email("a@b.c").await.unwrap(), None);
    assert_eq!(store.user_version(UserId::new()).await.unwrap(), None);
    assert_eq!(store.caller(&KeyId::from("unknown")).await.unwrap(), None);
    assert_eq!(store.charge(RequestId::new()).await.unwrap(), None);
    let change = UserChange::default();
    assert_eq!(store.change_user(UserId::new(), &change, &by()).await.unwrap(), None);
    assert_eq!(all_keys(&*store, UserId::new()).await.unwrap(), []);
    assert_eq!(store.plan(&PlanId::from("unknown")).await.unwrap(), None);
    assert!(store.credentials("a@b.c").await.unwrap().is_none());
    assert!(store.credentials_of(UserId::new()).await.unwrap().is_none());
    assert_eq!(store.session_user(SessionId::new(), at(0)).await.unwrap(), None);
    assert_eq!(store.upgrades(None, None, 9).await.unwrap(), []);
    assert_eq!(store.decide_upgrade(UpgradeId::new(), true, &by()).await.unwrap(), None);
    assert_eq!(store.audit(&AuditFilter::default(), None, 9).await.unwrap(), []);
}
