//! Administration.

use super::*;
use domain::charge::Lease;
use quota::backend::{Claim, ObservedTokens, TakeOutcome};
use quota::rules::{Debit, Resource, Scope};

const USERS: &str = "/api/v1/admin/users";

#[tokio::test]
async fn users_are_searched_filtered_and_paged() {
    let control = control().await;
    let root = control.admin().await;
    for name in ["ada", "alan", "grace"] {
        control.person(&format!("{name}@example.com"), Role::User).await;
    }
    let emails = async |query: &str| {
        let page = control.get(&format!("{USERS}{query}"), Some(&root.token)).await.ok();
        let rows = page["data"].as_array().unwrap().clone();
        let emails = rows.iter().map(|row| row["email"].as_str().unwrap().to_owned());
        (emails.collect::<Vec<_>>(), page["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(emails("").await.0.len(), 4);
    assert_eq!(emails("?search=GRA").await.0, ["grace@example.com"]);
    assert_eq!(emails("?search=%25").await.0, [""; 0]);
    assert_eq!(emails("?role=admin").await.0, ["root@example.com"]);
    assert_eq!(emails("?plan=none").await.0, [""; 0]);
    assert_eq!(emails("?status=suspended").await.0, [""; 0]);
    let (first, cursor) = emails("?limit=3").await;
    assert_eq!(first, ["root@example.com", "ada@example.com", "alan@example.com"]);
    let (rest, cursor) = emails(&format!("?limit=3&cursor={}", cursor.unwrap())).await;
    assert_eq!((rest, cursor), (vec!["grace@example.com".to_owned()], None));

    for (query, param) in [
        ("?limit=0", "limit"),
        ("?limit=201", "limit"),
        ("?limit=many", "limit"),
        ("?cursor=first", "cursor"),
        ("?status=gone", "status"),
        ("?role=owner", "role"),
        ("?search=%00", "search"),
        ("?order=email", "order"),
        (&format!("?search={}", "x".repeat(255)), "search"),
        ("?limit=1&limit=2", "limit"),
    ] {
        control.get(&format!("{USERS}{query}"), Some(&root.token)).await.invalid(param);
    }
}

#[tokio::test]
async fn a_user_is_shown_in_full_and_changed() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let admin = Some(&*root.token);
    let path = format!("{USERS}/{}", ada.user.id);
    control.key(ada.user.id, None, KeyLimits::default()).await;
    control.charged(ada.user.id, |_| {}).await;
    let shown = control.get(&path, admin).await.ok();
    assert_eq!(shown["user"]["email"], "ada@example.com");
    assert_eq!(shown["this_month"]["tokens"]["total"], 35);
    assert_eq!(shown["keys"].as_array().unwrap().len(), 1);
    assert_eq!(shown["overrides"]["max_tokens_per_day"], json!(null));

    let change = json!({
        "plan_id": "high-max", "overrides": { "max_tokens_per_day": 7, "concurrent_streams": 2 },
    });
    let changed = control.patch(&path, admin, change).await.ok();
    assert_eq!(changed["user"]["plan"]["id"], "high-max");
    assert_eq!(changed["user"]["limits"]["max_tokens_per_day"], 7);
    assert_eq!(changed["user"]["limits"]["max_requests_per_day"], 2000);
    assert_eq!(changed["usage"]["tokens"]["limit"], 7);
    let usage = control.get("/api/v1/chat/usage", Some(&ada.token)).await.ok();
    assert_eq!((&usage["tokens"]["limit"], &usage["streams"]["limit"]), (&json!(7), &json!(2)));
    let changed = control.patch(&path, admin, json!({ "overrides": {} })).await.ok();
    assert_eq!(changed["user"]["limits"]["max_tokens_per_day"], 100_000);

    control.patch(&path, admin, json!({ "status": "suspended" })).await.ok();
    control.get("/api/v1/users/profile", Some(&ada.token)).await.refused(401, "invalid_token");
    let changed = control.patch(&path, admin, json!({ "status": "active", "role": "admin" })).await;
    assert_eq!(changed.ok()["user"]["role"], "admin");

    for (form, param) in [
        (json!({ "role": "owner" }), "role"),
        (json!({ "password": "a new password" }), "password"),
        (json!({ "overrides": { "window": { "requests": 0, "seconds": 1 } } }), "overrides.window"),
        (json!({ "overrides": { "concurrent_streams": 0 } }), "overrides.concurrent_streams"),
        (json!({ "overrides": { "price": 0 } }), "overrides.price"),
    ] {
        control.patch(&path, admin, form).await.invalid(param);
    }
    control.patch(&path, admin, json!({ "plan_id": "none" })).await.refused(404, "plan_not_found");
    let email = json!({ "email": "root@example.com" });
    control.patch(&path, admin, email).await.refused(409, "email_taken");
    let own = format!("{USERS}/{}", root.user.id);
    for form in [json!({ "role": "user" }), json!({ "status": "suspended" })] {
        control.patch(&own, admin, form).await.refused(409, "own_account");
    }
    for unknown in ["none", "0199aaaa-0000-7000-8000-000000000000", "%00"] {
        control.get(&format!("{USERS}/{unknown}"), admin).await.refused(404, "not_found");
    }
}

/// Has a call use `tokens` through the counters, as the data plane does.
async fn use_tokens(control: &Control, user: UserId, tokens: u64) {
    let now = clock::now();
    let day = Day::at(now, &TimeZone::UTC);
    let key = control.key(user, None, KeyLimits::default()).await.id();
    let user = control.store.user(user).await.unwrap().unwrap();
    let lease = domain::testing::lease(user.id, key.as_str(), day, now);
    let lease = Lease { version: user.version, ..lease };
    let debits = [Scope::User(user.id), Scope::Key(key.clone())].into_iter().flat_map(|scope| {
        let limit = 1_000_000;
        let want = Resource::Tokens {
            day,
            want: tokens,
            least: tokens,
            likely: tokens,
            limit,
            share: None,
        };
        [
            Debit { scope: scope.clone(), resource: Resource::Request { day, limit } },
            Debit { scope, resource: want },
        ]
    });
    let (debits, observed) = (debits.collect(), ObservedTokens::default());
    let claim = Claim { lease: lease.clone(), debits, observed };
    let taken = control.quota.take(claim, now).await.unwrap();
    assert!(matches!(taken, TakeOutcome::Granted(_)), "{taken:?}");
    let mut charge = ended_now(user.id);
    charge.request = lease.request;
    charge.key = key;
    charge.tokens = TokenCount { prompt: tokens, ..TokenCount::default() };
    control.quota.settle(charge).await;
}

#[tokio::test]
async fn a_day_begins_anew_and_history_stays() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    use_tokens(&control, ada.user.id, 300).await;
    use_tokens(&control, ada.user.id, 40).await;
    let used = async || {
        let usage = control.get("/api/v1/chat/usage", Some(&ada.token)).await.ok();
        (usage["tokens"]["used"].as_u64().unwrap(), usage["requests"]["used"].as_u64().unwrap())
    };
    assert_eq!(used().await, (340, 2));
    let path = format!("{USERS}/{}/reset-usage", ada.user.id);
    let reset = control.post(&path, Some(&root.token), json!({})).await.ok();
    assert_eq!((&reset["removed_tokens"], &reset["removed_requests"]), (&json!(340), &json!(2)));
    assert_eq!(used().await, (0, 0));
    let again = control.post(&path, Some(&root.token), json!({})).await.ok();
    assert_eq!(again["removed_tokens"], 0);
    let month = control.get("/api/v1/usage/monthly", Some(&ada.token)).await.ok();
    assert_eq!(month["total"]["tokens"]["total"], 340, "what was used was used");
    let today = Day::at(clock::now(), &TimeZone::UTC);
    let ledger = control.store.ledger_totals(today).await.unwrap();
    assert!(ledger.iter().all(|row| row.tokens == 0), "counters begin from there: {ledger:?}");
}

#[tokio::test]
async fn the_overview_adds_up() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    control.charged(ada.user.id, |_| {}).await;
    control.charged(ada.user.id, |charge| charge.model = "grok-4.5".into()).await;
    let overview = control.get("/api/v1/admin/stats/overview", Some(&root.token)).await.ok();
    assert_eq!(overview["users"]["total"], 2);
    assert_eq!(overview["users"]["suspended"], 0);
    assert_eq!(overview["active_today"], 1);
    assert_eq!(overview["today"]["tokens"]["total"], 70);
    assert_eq!(overview["today"]["cost_cents"], 0.0246);
    assert_eq!(overview["today_by_plan"][0]["plan"], "leveler");
    assert_eq!(overview["today_by_model"].as_array().unwrap().len(), 2);
    assert_eq!(overview["monthly_recurring_revenue_cents"], 800);

    let daily = control.get("/api/v1/admin/stats/daily", Some(&root.token)).await.ok();
    assert_eq!(
        (&daily["total"]["calls"], &daily["total"]["tokens"]["total"]),
        (&json!(2), &json!(70))
    );
    assert_eq!((&daily["error_share"], &daily["latency"]["p99_ms"]), (&json!(0.0), &json!(249)));
    assert_eq!(daily["by_day"].as_array().unwrap().len(), 30);
    control.get("/api/v1/admin/stats/daily?to=x", Some(&root.token)).await.invalid("to");

    let path = "/api/v1/admin/usage/top-users";
    let top = control.get(path, Some(&root.token)).await.ok();
    assert_eq!(top["data"].as_array().unwrap().len(), 1);
    assert_eq!(top["data"][0]["email"], "ada@example.com");
    assert_eq!(top["data"][0]["requests"], 2);
    for (query, param) in [("?by=name", "by"), ("?from=2026-13-01", "from"), ("?limit=0", "limit")]
    {
        control.get(&format!("{path}{query}"), Some(&root.token)).await.invalid(param);
    }
}

#[tokio::test]
async fn every_change_is_in_the_audit_log() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let admin = Some(&*root.token);
    let user = format!("{USERS}/{}", ada.user.id);
    control.patch(&user, admin, json!({ "plan_id": "log-min" })).await.ok();
    control.post(&format!("{user}/reset-usage"), admin, json!({})).await.ok();
    control.patch("/api/v1/admin/plans/log-min", admin, json!({ "price_cents": 1 })).await.ok();
    control.post("/api/v1/keys", Some(&ada.token), json!({ "name": "laptop" })).await.ok();

    let log = async |query: &str| {
        let page = control.get(&format!("/api/v1/admin/audit{query}"), admin).await.ok();
        page["data"].as_array().unwrap().clone()
    };
    let newest = log("?limit=4").await;
    let actions: Vec<&str> = newest.iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["key.add", "plan.change", "usage.reset", "user.change"]);
    let change = &newest[3];
    assert_eq!(change["actor"], format!("user:{}", root.user.id));
    assert_eq!(change["before"]["plan"], "leveler");
    assert_eq!(change["after"]["plan"], "log-min");
    assert!(change["request_id"].as_str().unwrap().starts_with("req_"));
    assert_eq!(newest[1]["before"]["price_cents"], 1000);
    let of_plan = log("?subject=plan:log-min").await;
    assert_eq!(of_plan.len(), 2, "seeded, then changed");
    assert_eq!(log("?actor=operator").await.len(), 2, "two users were added");
    assert_eq!(log(&format!("?actor=user:{}", ada.user.id)).await.len(), 1);
    let text = control.get("/api/v1/admin/audit?limit=200", admin).await.text;
    assert!(!text.contains("argon2") && !text.contains("sk-kx-"));
}

#[tokio::test]
async fn the_system_tells_how_its_parts_are() {
    let control = control().await;
    let root = control.admin().await;
    let health = control.get("/api/v1/admin/system/health", Some(&root.token)).await.ok();
    assert_eq!(health["status"], "ok");
    let usage = &health["usage"];
    assert_eq!((&usage["queue_depth"], &usage["flush_lag_ms"]), (&json!(0), &json!(0)));
    assert!(health["store_connections"]["max"].as_u64().unwrap() >= 1);
    assert_eq!((&health["open_calls"], &health["dead_entries"]), (&json!(0), &json!(0)));
    let reload = control.post("/api/v1/admin/config/reload", Some(&root.token), json!({})).await;
    reload.refused(409, "not_reloaded");
}
