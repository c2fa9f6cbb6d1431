//! Plans.

use super::{Any, add_user, admin, by, changed, new_user, plan, to};
use domain::id::PlanId;
use domain::plan::Plan;
use jiff::tz::TimeZone;
use store::PlanChange;

pub async fn plans_come_back_as_they_were_put(store: Any) {
    let (mut cheap, dear) = (plan("cheap"), plan("dear"));
    cheap.price_cents = 0;
    cheap.limits.models = None;
    cheap.limits.time_zone = TimeZone::UTC;
    store.sync_plans(&[dear.clone(), cheap.clone()], &by()).await.unwrap();
    assert_eq!(store.plans().await.unwrap(), [cheap.clone(), dear.clone()]);
    cheap.name = "Renamed".to_owned();
    store.sync_plans(std::slice::from_ref(&cheap), &by()).await.unwrap();
    assert_eq!(store.plan(&cheap.id).await.unwrap(), Some(cheap));
    assert_eq!(store.plan(&dear.id).await.unwrap(), Some(dear));
}

pub async fn only_a_changed_plan_makes_records_stale(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    store.sync_plans(&[plan("basic"), plan("other")], &by()).await.unwrap();
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(user.version));
    let renamed = Plan { name: "New".to_owned(), price_cents: 77, ..plan("basic") };
    store.sync_plans(&[renamed, plan("other")], &by()).await.unwrap();
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(user.version));
    let mut other = plan("basic");
    other.limits.models = None;
    let before = store.changes(0).await.unwrap();
    store.sync_plans(&[other, plan("other")], &by()).await.unwrap();
    assert_eq!(store.user_version(user.id).await.unwrap(), Some(user.version + 1));
    assert_eq!(store.changes(before.upto).await.unwrap().users, [changed(&user, 1)]);
}

pub async fn a_plan_is_added_once(store: Any) {
    let own = Plan { retired: true, ..plan("own") };
    assert!(store.add_plan(&own, &admin()).await.unwrap());
    assert_eq!(store.plan(&own.id).await.unwrap().as_ref(), Some(&own));
    assert!(!store.add_plan(&plan("own"), &admin()).await.unwrap());
    assert_eq!(store.plans().await.unwrap(), [own]);
}

pub async fn a_changed_plan_keeps_its_position(store: Any) {
    let basic = plan("basic");
    assert_eq!(store.change_plan(&basic.id, &to(&basic), &admin()).await.unwrap(), None);
    assert_eq!(store.plans().await.unwrap(), []);
    let user = add_user(&store, "a@b.c").await;
    store.sync_plans(&[plan("other")], &by()).await.unwrap();
    let untouched = store.add_user(&new_user("d@e.f", "other"), &by()).await.unwrap();
    let before = store.changes(0).await.unwrap();

    let mut new = Plan { name: "New".to_owned(), retired: true, ..plan("basic") };
    new.limits.tokens_per_day += 1;
    for _ in 0..2 {
        let changed = store.change_plan(&new.id, &to(&new), &admin()).await.unwrap();
        assert_eq!(changed.as_ref(), Some(&new));
        assert_eq!(store.plan(&new.id).await.unwrap().as_ref(), Some(&new));
        assert_eq!(store.user_version(user.id).await.unwrap(), Some(user.version + 1));
    }
    assert_eq!(store.user_version(untouched.id).await.unwrap(), Some(untouched.version));
    assert_eq!(store.changes(before.upto).await.unwrap().users, [changed(&user, 1)]);
}

pub async fn a_value_that_an_admin_changed_is_not_reset(store: Any) {
    let configured = ["same", "changed", "added"].map(plan);
    assert_eq!(store.sync_plans(&configured[..2], &by()).await.unwrap(), []);
    // A change that changes nothing leaves the configuration its say.
    store.change_plan(&configured[0].id, &to(&configured[0]), &admin()).await.unwrap();
    let mut changed = plan("changed");
    changed.limits.tokens_per_day = 5;
    store.change_plan(&changed.id, &to(&changed), &admin()).await.unwrap();
    let added = Plan { name: "By hand".to_owned(), ..plan("added") };
    store.add_plan(&added, &admin()).await.unwrap();

    let mut later = configured;
    later[0].price_cents = 1;
    for _ in 0..2 {
        let kept = store.sync_plans(&later, &by()).await.unwrap();
        assert_eq!(kept, [PlanId::from("changed"), PlanId::from("added")]);
        for plan in [&later[0], &changed, &added] {
            assert_eq!(store.plan(&plan.id).await.unwrap().as_ref(), Some(plan));
        }
    }
}

pub async fn changes_of_several_fields_at_once_are_all_kept(store: Any) {
    store.sync_plans(&[plan("shared")], &by()).await.unwrap();
    let id = PlanId::from("shared");
    let name = PlanChange { name: Some("Renamed".to_owned()), ..PlanChange::default() };
    let price = PlanChange { price_cents: Some(9), ..PlanChange::default() };
    let tokens = PlanChange { tokens_per_day: Some(77), ..PlanChange::default() };
    let by = admin();
    let changes = [&name, &price, &tokens].map(|change| store.change_plan(&id, change, &by));
    for changed in futures_util::future::join_all(changes).await {
        assert!(changed.unwrap().is_some());
    }
    let shared = store.plan(&id).await.unwrap().unwrap();
    let seen = (shared.name.as_str(), shared.price_cents, shared.limits.tokens_per_day);
    assert_eq!(seen, ("Renamed", 9, 77));
}
