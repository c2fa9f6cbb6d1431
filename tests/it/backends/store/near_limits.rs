//! Who has used most of a limit of a day.

use super::journal::write;
use super::{Any, by, charge, day, lease, new_user, plan, suspend};
use domain::charge::{Charge, Lease};
use domain::plan::{Plan, PlanLimits};
use domain::user::{LimitOverrides, User};
use store::reports::UsedShare;
use store::{Entry, UserChange};

/// Cached tokens of each call that its plan does not count.
const UNCOUNTED: u64 = 5_000;

/// A user of the plan `basic` (1,000 tokens, 10 requests) who has used as many tokens in each of `calls`.
async fn user_with(store: &Any, name: &str, calls: &[u64], own: Option<LimitOverrides>) -> User {
    let email = format!("{name}@b.c");
    let user = store.add_user(&new_user(&email, "basic"), &by()).await.unwrap();
    let change = UserChange { overrides: own, ..UserChange::default() };
    let user = store.change_user(user.id, &change, &by()).await.unwrap().unwrap();
    let entry = |tokens: &u64| {
        let lease = lease(&user, "0123456789ab", 1);
        // One of them is reasoning, and cached ones that are not counted come on top.
        let counted = charge(&lease, tokens - 1 + UNCOUNTED, 0);
        Entry::Settle(Charge { uncounted: UNCOUNTED, ..counted })
    };
    write(store, &calls.iter().map(entry).collect::<Vec<_>>()).await;
    user
}

fn own(tokens: Option<u64>, requests: Option<u64>) -> Option<LimitOverrides> {
    let overrides = LimitOverrides::default();
    Some(LimitOverrides { tokens_per_day: tokens, requests_per_day: requests, ..overrides })
}

pub async fn users_near_a_limit_are_found_whoever_used_most(store: Any) {
    let wide = Plan {
        limits: PlanLimits { tokens_per_day: 1_000_000, ..plan("wide").limits },
        ..plan("wide")
    };
    store.sync_plans(&[plan("basic"), wide], &by()).await.unwrap();
    store.create_partitions(day("2026-01-01")).await.unwrap();
    let on = day("2026-01-02");
    // Users of a wide plan who used much more, and are near no limit.
    let moved = UserChange { plan: Some("wide".into()), ..UserChange::default() };
    for name in ["x", "y", "z"] {
        let user = user_with(&store, name, &[50_000], None).await;
        store.change_user(user.id, &moved, &by()).await.unwrap();
    }
    let by_plan = user_with(&store, "plan", &[500, 350], None).await;
    let far = user_with(&store, "far", &[799], None).await;
    let at_the_share = user_with(&store, "at", &[800], None).await;
    let by_requests = user_with(&store, "requests", &[1; 9], None).await;
    let lowered = user_with(&store, "lowered", &[38], own(Some(40), None)).await;
    user_with(&store, "raised", &[950], own(Some(10_000), Some(1_000_000_000))).await;
    user_with(&store, "nothing", &[950], own(Some(0), Some(0))).await;
    let over = user_with(&store, "over", &[3_000], own(None, Some(1))).await;
    let gone = user_with(&store, "gone", &[990], None).await;
    suspend(&store, gone.id).await;
    // Of another day.
    let other = Lease { day: day("2026-01-03"), ..lease(&far, "0123456789ab", 1) };
    write(&store, &[Entry::Settle(charge(&other, 900, 0))]).await;

    let near = store.near_limits(on, 80, 100).await.unwrap();
    let found: Vec<_> = near.iter().map(|one| one.user.email.as_str()).collect();
    let expected = [&over, &lowered, &by_requests, &by_plan, &at_the_share];
    assert_eq!(found, expected.map(|user| user.email.as_str()));
    let share = |used, limit| UsedShare { used, limit };
    assert_eq!((near[0].tokens, near[0].requests), (share(3_000, 1_000), share(1, 1)));
    assert_eq!((near[1].tokens, near[1].requests), (share(38, 40), share(1, 10)));
    assert_eq!((near[2].tokens, near[2].requests), (share(9, 1_000), share(9, 10)));
    assert_eq!(near[3].user, by_plan);
    let nearest = store.near_limits(on, 80, 2).await.unwrap();
    assert_eq!(nearest, near[..2]);
    assert_eq!(store.near_limits(on, 301, 100).await.unwrap(), []);
    assert_eq!(store.near_limits(day("2026-02-01"), 0, 100).await.unwrap(), []);
}
