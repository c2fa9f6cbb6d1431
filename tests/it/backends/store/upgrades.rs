//! Requests for another plan.

use super::{Any, add_user, admin, at, by, changed, new_key, plan};
use domain::actor::{Actor, AuditContext};
use domain::id::{PlanId, UpgradeId, UserId};
use domain::user::User;
use futures_util::future::join_all;
use store::upgrades::{Decided, Upgrade, UpgradeStatus};
use store::{PlanChange, StoreError};

/// A user on `basic`, where there are also `big` and `huge`.
async fn user(store: &Any, email: &str) -> User {
    store.sync_plans(&[plan("big"), plan("huge")], &by()).await.unwrap();
    add_user(store, email).await
}

/// The user asks for a plan in some second.
async fn ask(store: &Any, user: UserId, to: &str, second: i64) -> Upgrade {
    let by = AuditContext { actor: Actor::User(user), at: at(second), request_id: None };
    store.request_upgrade(user, &PlanId::from(to), &by).await.unwrap()
}

async fn all(store: &Any) -> Vec<Upgrade> {
    store.upgrades(None, None, 100).await.unwrap()
}

pub async fn a_repeated_upgrade_request_is_one_request(store: Any) {
    let user = user(&store, "a@b.c").await;
    let asked = ask(&store, user.id, "big", 1).await;
    let expected = Upgrade {
        id: asked.id,
        user: user.id,
        from: PlanId::from("basic"),
        to: PlanId::from("big"),
        status: UpgradeStatus::Pending,
        asked_at: at(1),
        decided_at: None,
        decided_by: None,
    };
    assert_eq!(asked, expected);
    assert_eq!(ask(&store, user.id, "big", 2).await, asked);
    assert_eq!(all(&store).await, [asked]);
    assert_eq!(store.user(user.id).await.unwrap(), Some(user));
}

pub async fn the_latest_request_of_a_user_is_found(store: Any) {
    let (user, other) = (user(&store, "1@b.c").await, user(&store, "2@b.c").await);
    let latest = async |user: UserId| store.latest_upgrade(user).await.unwrap();
    assert_eq!(latest(user.id).await, None);
    ask(&store, user.id, "big", 1).await;
    let second = ask(&store, user.id, "huge", 2).await;
    let theirs = ask(&store, other.id, "big", 3).await;
    assert_eq!(latest(user.id).await, Some(second.clone()));
    store.decide_upgrade(second.id, false, &admin()).await.unwrap();
    let decided = latest(user.id).await.unwrap();
    assert_eq!((decided.id, decided.status), (second.id, UpgradeStatus::Rejected));
    assert_eq!(latest(other.id).await, Some(theirs));
}

pub async fn a_request_for_another_plan_replaces_the_first(store: Any) {
    let (user, other) = (user(&store, "1@b.c").await, user(&store, "2@b.c").await);
    let first = ask(&store, user.id, "big", 1).await;
    let theirs = ask(&store, other.id, "big", 2).await;
    let second = ask(&store, user.id, "huge", 3).await;
    let replaced = Upgrade {
        status: UpgradeStatus::Superseded,
        decided_at: Some(at(3)),
        decided_by: Some(format!("user:{}", user.id)),
        ..first
    };
    assert_eq!(all(&store).await, [second, theirs, replaced.clone()]);
    let late = store.decide_upgrade(replaced.id, true, &admin()).await.unwrap();
    assert_eq!(late, Some(Decided::Before(replaced)));
}

pub async fn an_upgrade_request_needs_an_open_plan(store: Any) {
    let user = user(&store, "a@b.c").await;
    let retired = PlanChange { retired: Some(true), ..PlanChange::default() };
    store.change_plan(&PlanId::from("huge"), &retired, &admin()).await.unwrap();
    for plan in ["gone", "huge"] {
        let asked = store.request_upgrade(user.id, &PlanId::from(plan), &by()).await;
        assert!(matches!(asked, Err(StoreError::Missing("plan"))), "{asked:?}");
    }
    let asked = store.request_upgrade(UserId::new(), &PlanId::from("big"), &by()).await;
    assert!(matches!(asked, Err(StoreError::Missing("user"))), "{asked:?}");
    assert_eq!(all(&store).await, []);
}

pub async fn an_approved_request_changes_the_plan(store: Any) {
    let user = user(&store, "a@b.c").await;
    let key = store.add_key(user.id, &new_key("laptop"), &by()).await.unwrap();
    let (before, told) =
        (store.user(user.id).await.unwrap().unwrap(), store.changes(0).await.unwrap());
    let asked = ask(&store, user.id, "big", 1).await;
    assert_eq!(store.changes(0).await.unwrap(), told);

    let by = admin();
    let expected = Upgrade {
        status: UpgradeStatus::Approved,
        decided_at: Some(by.at),
        decided_by: Some(by.actor.to_string()),
        ..asked
    };
    let decided = store.decide_upgrade(asked.id, true, &by).await.unwrap();
    assert_eq!(decided, Some(Decided::Now(expected.clone())));
    let after = User { plan: PlanId::from("big"), version: before.version + 1, ..before.clone() };
    assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&after));
    assert_eq!(store.changes(told.upto).await.unwrap().users, [changed(&before, 1)]);
    let caller = store.caller(&key.id).await.unwrap().unwrap();
    assert_eq!((caller.plan, caller.version), (PlanId::from("big"), after.version));

    let again = store.decide_upgrade(asked.id, false, &admin()).await.unwrap();
    assert_eq!(again, Some(Decided::Before(expected)));
    assert_eq!(store.user(user.id).await.unwrap(), Some(after));
    assert_eq!(ask(&store, user.id, "huge", 2).await.from, PlanId::from("big"));
}

pub async fn a_rejected_request_changes_nothing(store: Any) {
    let user = user(&store, "a@b.c").await;
    let asked = ask(&store, user.id, "big", 1).await;
    let decided = store.decide_upgrade(asked.id, false, &admin()).await.unwrap();
    let Some(Decided::Now(decided)) = decided else { panic!("{decided:?}") };
    assert_eq!((decided.status, decided.decided_at), (UpgradeStatus::Rejected, Some(at(9))));
    assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
    let again = ask(&store, user.id, "big", 2).await;
    assert_ne!(again.id, asked.id);
    assert_eq!(all(&store).await, [again, decided]);
}

pub async fn the_first_of_two_decisions_wins(store: Any) {
    let user = user(&store, "a@b.c").await;
    let asked = ask(&store, user.id, "big", 1).await;
    let by = admin();
    let decide = |approve| store.decide_upgrade(asked.id, approve, &by);
    let (one, two) = tokio::join!(decide(true), decide(false));
    let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
    let holds = match (one, two) {
        (Decided::Now(first), Decided::Before(same))
        | (Decided::Before(same), Decided::Now(first))
            if first == same =>
        {
            first.status
        }
        other => panic!("{other:?}"),
    };
    let plan = store.user(user.id).await.unwrap().unwrap().plan;
    assert_eq!(plan == PlanId::from("big"), holds == UpgradeStatus::Approved);
}

pub async fn requests_come_in_pages_the_newest_first(store: Any) {
    let mut asked = Vec::new();
    for n in 0..7 {
        let user = user(&store, &format!("{n}@b.c")).await;
        asked.push(ask(&store, user.id, "big", n).await);
    }
    for n in [1, 4] {
        let decided = store.decide_upgrade(asked[n].id, false, &admin()).await.unwrap();
        let Some(Decided::Now(decided)) = decided else { panic!("{decided:?}") };
        asked[n] = decided;
    }
    asked.reverse();
    let pending = |upgrade: &&Upgrade| upgrade.status == UpgradeStatus::Pending;
    for (status, expected) in [
        (None, asked.clone()),
        (Some(UpgradeStatus::Pending), asked.iter().filter(pending).cloned().collect()),
        (Some(UpgradeStatus::Rejected), asked.iter().filter(|u| !pending(u)).cloned().collect()),
        (Some(UpgradeStatus::Approved), vec![]),
    ] {
        let (mut pages, mut before): (Vec<Upgrade>, Option<UpgradeId>) = (Vec::new(), None);
        loop {
            let page = store.upgrades(status, before, 2).await.unwrap();
            assert!(page.len() <= 2);
            match page.last() {
                Some(last) => before = Some(last.id),
                None => break,
            }
            pages.extend(page);
        }
        assert_eq!(pages, expected, "{status:?}");
    }
}

pub async fn concurrent_requests_leave_one_pending(store: Any) {
    let user = user(&store, "a@b.c").await;
    join_all((0..6).map(|n| ask(&store, user.id, ["big", "huge"][n % 2], 1))).await;
    let pending = store.upgrades(Some(UpgradeStatus::Pending), None, 9).await.unwrap();
    assert_eq!(pending.len(), 1);
}
