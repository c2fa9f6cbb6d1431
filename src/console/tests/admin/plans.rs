//! Plans, and requests for them.

use super::*;
use store::PlanChange;

/// The fields of a plan, as a person fills them in.
const TEAM: [(&str, &str); 17] = [
    ("id", "team"),
    ("name", "Team <b>1</b>"),
    ("price", "25.50"),
    ("tokens", "50,000"),
    ("cached_fraction", "0.125"),
    ("requests", "1000"),
    ("window_requests", "10"),
    ("window_seconds", "60"),
    ("streams", "20"),
    ("scope", "all"),
    ("time_zone", "Europe/Berlin"),
    ("server_tools", "strip"),
    ("max_tool_calls", "5"),
    ("service_tiers", "auto, default"),
    ("image_sizes", "any"),
    ("image_qualities", "low medium"),
    ("account_references", "on"),
];

#[tokio::test]
async fn plans_are_added_changed_and_retired() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let form = "/console/admin/plans/new";
    root.get(form).await;
    let reply = root.post(form, &TEAM).await;
    assert_eq!(reply.header("location"), "/console/admin/plans?done=plan-added", "{}", reply.text);
    let team = PlanId::from("team");
    let plan = control.store.plan(&team).await.unwrap().unwrap();
    assert_eq!((plan.price_cents, plan.limits.tokens_per_day), (2550, 50_000));
    assert_eq!(plan.limits.cached_token_fraction.to_string(), "0.125");
    assert_eq!(plan.limits.time_zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(
        (plan.limits.policy.max_tool_calls, plan.limits.policy.account_references),
        (5, true)
    );
    assert_eq!(plan.limits.policy.image_qualities.len(), 2);
    let list = root.get("/console/admin/plans").await.text;
    assert!(
        !list.contains("<b>1")
            && words(&list).contains("$25.50")
            && words(&list).contains("Baby Free")
    );

    for (name, value, problem) in [
        ("id", "team", "Another plan has this id"),
        ("id", "Team", "An id has"),
        ("name", " ", "A name has"),
        ("price", "free", "Dollars per month"),
        ("tokens", "", "Tokens per day: fill in"),
        ("cached_fraction", "1.1", "Counted part of a cached prompt token: enter a number from 0"),
        ("cached_fraction", "0.12345", "with at most three decimals"),
        ("window_seconds", "0", "Seconds of the window"),
        ("scope", "some", "Models: choose at least one."),
        ("time_zone", "Mars", "time zone such as"),
        ("image_sizes", "<b>", "Image sizes"),
    ] {
        let reply = root.post(form, &changed(&TEAM, name, value)).await;
        assert!(reply.status.is_client_error(), "{name} {}", reply.status);
        assert!(words(&reply.text).contains(problem), "{name}: {}", words(&reply.text));
        assert!(
            reply.text.contains("value=\"25.50\"") || name == "price",
            "what was typed is kept"
        );
    }

    let edit = "/console/admin/plans/team";
    let page = root.get(edit).await.text;
    assert!(page.contains("value=\"25.50\"") && page.contains("value=\"Europe/Berlin\""));
    assert!(!page.contains("name=\"id\""), "an id never changes");
    let mut fields = changed(&TEAM, "price", "30");
    fields.retain(|field| field.0 != "account_references");
    fields.retain(|field| field.0 != "id");
    fields.extend([("models", "grok-4.3")]);
    let fields = changed(&fields, "scope", "some");
    let reply = root.post(edit, &fields).await;
    assert_eq!(reply.header("location"), "/console/admin/plans?done=plan-saved", "{}", reply.text);
    let plan = control.store.plan(&team).await.unwrap().unwrap();
    assert_eq!((plan.price_cents, plan.limits.policy.account_references), (3000, false));
    assert_eq!(plan.limits.models.as_deref().map(<[_]>::len), Some(1));

    root.post("/console/admin/plans/team/retire", &[]).await;
    assert!(control.store.plan(&team).await.unwrap().unwrap().retired);
    let user = format!("/console/admin/users/{}", ada.user.id);
    assert!(!root.get(&user).await.text.contains("value=\"team\""), "closed to others");
    let reply = root.post(&format!("{user}/change"), &[("plan", "team")]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    root.post("/console/admin/plans/team/reopen", &[]).await;
    assert!(!control.store.plan(&team).await.unwrap().unwrap().retired);
    assert_eq!(root.get("/console/admin/plans/none").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_for_plans_are_decided() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let path = "/console/admin/upgrades";
    assert!(words(&root.get(path).await.text).contains("No request."));
    let by = AuditContext::operator(clock::now());
    let ask = async |plan: &str| {
        control.store.request_upgrade(ada.user.id, &PlanId::from(plan), &by).await.unwrap().id
    };
    let first = ask("log-min").await;
    let page = words(&root.get(path).await.text);
    assert!(page.contains("ada@example.com Leveler Log Min"), "{page}");
    let reply = root.post(&format!("{path}/{first}/reject"), &[("next", path)]).await;
    assert_eq!(reply.header("location"), "/console/admin/upgrades?done=rejected");
    assert_eq!(current(&control, &ada.user).await.plan, PlanId::from("leveler"));
    assert!(words(&root.get(path).await.text).contains("No request."));
    assert!(words(&root.get(&format!("{path}?status=rejected")).await.text).contains("rejected"));
    let again = root.post(&format!("{path}/{first}/approve"), &[]).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let second = ask("high-max").await;
    root.get(path).await;
    root.post(&format!("{path}/{second}/approve"), &[]).await;
    assert_eq!(current(&control, &ada.user).await.plan, PlanId::from("high-max"));
    let all = words(&root.get(&format!("{path}?status=all")).await.text);
    assert!(all.contains("approved") && all.contains("rejected"), "{all}");
}

#[tokio::test]
async fn a_request_that_is_out_of_date_can_only_be_rejected() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let by = AuditContext::operator(clock::now());
    let (wanted, path) = (PlanId::from("log-min"), "/console/admin/upgrades");
    let approvals = |page: &str| page.matches("/approve\"").count();
    let asked = control.store.request_upgrade(ada.user.id, &wanted, &by).await.unwrap();
    assert_eq!(approvals(&root.get(path).await.text), 1);
    let retired = |retired| PlanChange { retired: Some(retired), ..PlanChange::default() };
    control.store.change_plan(&wanted, &retired(true), &by).await.unwrap();
    let page = root.get(path).await.text;
    assert!(approvals(&page) == 0 && page.contains("/reject\""), "{page}");
    assert!(words(&page).contains("out of date"), "{page}");
    control.store.change_plan(&wanted, &retired(false), &by).await.unwrap();
    assert_eq!(approvals(&root.get(path).await.text), 1);
    let moved = UserChange { plan: Some(PlanId::from("high-max")), ..UserChange::default() };
    control.store.change_user(ada.user.id, &moved, &by).await.unwrap();
    assert_eq!(approvals(&root.get(path).await.text), 0);
    let reply = root.post(&format!("{path}/{}/reject", asked.id), &[]).await;
    assert_eq!(reply.header("location"), format!("{path}?done=rejected"), "{}", reply.text);
}
