//! Plans, and changing to another.

use super::*;

const UPGRADE: &str = "/api/v1/plans/upgrade";
const PLANS: &str = "/api/v1/admin/plans";

#[tokio::test]
async fn plans_are_compared_by_what_they_give_for_their_price() {
    let control = control().await;
    let compared = control.get("/api/v1/plans/compare/pricing", None).await.ok();
    let plans = compared["data"].as_array().unwrap();
    let prices: Vec<(&Value, &Value)> = plans
        .iter()
        .map(|plan| (&plan["cents_per_1000_tokens"], &plan["cents_per_request"]))
        .collect();
    assert_eq!(prices[0], (&json!(0.0), &json!(0.0)));
    // 400 cents for 30 days of 5,000 tokens and 100 requests.
    assert_eq!(prices[1], (&json!(2.667), &json!(0.133)));
    assert_eq!(plans[3]["max_tokens_per_day"], 100_000);
}

#[tokio::test]
async fn where_billing_is_open_a_plan_is_had_at_once() {
    let control = control_with("[billing]\nmode = \"open\"\n", None).await;
    let ada = control.user().await;
    let ask = async |plan: &str| {
        control.post(UPGRADE, Some(&ada.token), json!({ "plan_id": plan })).await
    };
    let upgraded = ask("high-max").await;
    assert_eq!(upgraded.status, 200, "{}", upgraded.text);
    assert_eq!(upgraded.json()["user"]["plan"]["id"], "high-max");
    ask("high-max").await.refused(409, "same_plan");
    ask("none").await.refused(404, "plan_not_found");
    let usage = control.get("/api/v1/chat/usage", Some(&ada.token)).await.ok();
    assert_eq!(usage["tokens"]["limit"], 100_000);
}

#[tokio::test]
async fn where_it_is_manual_an_admin_decides() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let admin = Some(&*root.token);
    let ask = async |plan: &str| {
        control.post(UPGRADE, Some(&ada.token), json!({ "plan_id": plan })).await
    };
    let first = ask("log-min").await;
    assert_eq!(first.status, 202, "{}", first.text);
    let first = first.json();
    assert_eq!(first["status"], "pending");
    assert_eq!(ask("log-min").await.json()["id"], first["id"], "asked twice, asked once");
    let second = ask("high-max").await.json();
    let decide = async |upgrade: &Value, verdict: &str| {
        let id = upgrade["id"].as_str().unwrap();
        control.post(&format!("/api/v1/admin/upgrades/{id}/{verdict}"), admin, json!({})).await
    };
    decide(&first, "approve").await.refused(409, "already_decided");
    assert_eq!(decide(&second, "approve").await.ok()["status"], "approved");
    decide(&second, "reject").await.refused(409, "already_decided");
    let profile = control.get("/api/v1/users/profile", Some(&ada.token)).await.ok();
    assert_eq!(profile["plan"]["id"], "high-max");

    let third = ask("baby-free").await.json();
    assert_eq!(decide(&third, "reject").await.ok()["decided_by"], format!("user:{}", root.user.id));
    let listed = async |query: &str| {
        let page = control.get(&format!("/api/v1/admin/upgrades{query}"), admin).await.ok();
        let rows = page["data"].as_array().unwrap().clone();
        rows.iter().map(|row| row["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("").await, ["rejected", "approved", "superseded"]);
    assert_eq!(listed("?status=approved").await, ["approved"]);
    let page = control.get("/api/v1/admin/upgrades?limit=2", admin).await.ok();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(listed(&format!("?cursor={cursor}")).await, ["superseded"]);
    let nothing = json!({ "id": "0199aaaa-0000-7000-8000-000000000000" });
    decide(&nothing, "approve").await.refused(404, "not_found");
}

#[tokio::test]
async fn admins_add_change_and_retire_plans() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let admin = Some(&*root.token);
    let form = json!({
        "id": "team", "name": "Team", "price_cents": 2500, "max_tokens_per_day": 50_000,
        "max_requests_per_day": 1000, "window": { "requests": 10, "seconds": 60 },
        "concurrent_streams": 20, "time_zone": "Europe/Berlin",
    });
    let added = control.post(PLANS, admin, form.clone()).await;
    assert_eq!(added.status, 201, "{}", added.text);
    assert_eq!(control.get("/api/v1/plans/team", None).await.ok(), added.json());
    control.post(PLANS, admin, form.clone()).await.refused(409, "plan_exists");

    assert_eq!(
        (&added.json()["server_tools"], &added.json()["max_tool_calls"]),
        (&json!("allow"), &json!(20))
    );
    assert_eq!(added.json()["account_references"], false);
    assert_eq!(added.json()["cached_token_fraction"], 1.0);
    for fraction in [0.125, 0.0, 1.0, 0.1] {
        let change = json!({ "cached_token_fraction": fraction });
        let changed = control.patch(&format!("{PLANS}/team"), admin, change).await.ok();
        assert_eq!(changed["cached_token_fraction"], fraction);
    }
    let whole = json!({ "cached_token_fraction": 1 });
    let changed = control.patch(&format!("{PLANS}/team"), admin, whole).await.ok();
    assert_eq!(changed["cached_token_fraction"], 1.0);
    let change = json!({ "server_tools": "refuse", "max_tool_calls": 3, "service_tiers": ["any"],
        "image_qualities": [], "account_references": true });
    let changed = control.patch(&format!("{PLANS}/team"), admin, change.clone()).await.ok();
    for (name, value) in change.as_object().unwrap() {
        assert_eq!(changed[name], *value);
    }
    let change = json!({ "max_tokens_per_day": 60_000, "models": ["grok-4.3"] });
    let changed = control.patch(&format!("{PLANS}/team"), admin, change).await.ok();
    assert_eq!(changed["max_tokens_per_day"], 60_000);
    assert_eq!((&changed["name"], &changed["models"]), (&json!("Team"), &json!(["grok-4.3"])));
    control.patch(&format!("{PLANS}/none"), admin, json!({})).await.refused(404, "plan_not_found");

    let retired = control.delete(&format!("{PLANS}/team"), admin).await.ok();
    assert_eq!(retired["retired"], true);
    let list = control.get("/api/v1/plans", None).await.text;
    assert!(!list.contains("\"team\""));
    let ask = json!({ "plan_id": "team" });
    control.post(UPGRADE, Some(&ada.token), ask.clone()).await.refused(409, "plan_retired");
    let user = format!("/api/v1/admin/users/{}", ada.user.id);
    control.patch(&user, admin, ask).await.refused(409, "plan_retired");

    for (field, value, param) in [
        ("id", json!("Team"), "id"),
        ("id", json!(""), "id"),
        ("name", json!(""), "name"),
        ("price_cents", json!(100_000_001), "price_cents"),
        ("price_cents", json!(-1), "price_cents"),
        ("max_tokens_per_day", json!(1_000_000_000_001_u64), "max_tokens_per_day"),
        ("cached_token_fraction", json!(-0.1), "cached_token_fraction"),
        ("cached_token_fraction", json!(1.1), "cached_token_fraction"),
        ("cached_token_fraction", json!(0.12345), "cached_token_fraction"),
        ("cached_token_fraction", json!("0.1"), "cached_token_fraction"),
        ("window", json!({ "requests": 0, "seconds": 60 }), "window"),
        ("window", json!({ "requests": 1 }), "window.seconds"),
        ("window", json!([1, 60]), "window"),
        ("concurrent_streams", json!(0), "concurrent_streams"),
        ("time_zone", json!("Mars/Olympus"), "time_zone"),
        ("models", json!(["grok-nonesuch"]), "models"),
        ("server_tools", json!("sometimes"), "server_tools"),
        ("max_tool_calls", json!(0), "max_tool_calls"),
        ("service_tiers", json!(["a b"]), "service_tiers[0]"),
        ("image_sizes", json!(vec!["1x1"; 33]), "image_sizes"),
        ("owner", json!("me"), "owner"),
    ] {
        let mut bad = form.clone();
        bad["id"] = json!("other");
        bad[field] = value;
        control.post(PLANS, admin, bad).await.invalid(param);
    }
}
