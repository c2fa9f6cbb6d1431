//! The plans page: at once where billing is open, by request where an admin decides.

use super::*;
use crate::control::tests::{Person, control_with};
use domain::actor::AuditContext;
use domain::cached_tokens::CachedTokenFraction;
use domain::id::PlanId;
use domain::plan::Window;
use domain::user::LimitOverrides;
use store::upgrades::UpgradeStatus;
use store::{PlanChange, UserChange};

const PLANS: &str = "/console/plans";
const OPEN: &str = "[billing]\nmode = \"open\"\n";

async fn plan_of(control: &Control, person: &Person) -> String {
    control.store.user(person.user.id).await.unwrap().unwrap().plan.to_string()
}

#[tokio::test]
async fn plans_are_compared_and_the_own_one_is_marked() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let page = browser.get(PLANS).await.text;
    for part in [
        "Baby Free",
        "Free",
        "Leveler",
        "$4.00 a month",
        "Log Min",
        "High Max",
        "100,000",
        "An admin decides",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("Your plan<").count(), 1);
    let own = page.split("<section").find(|card| card.contains("Your plan<")).unwrap();
    assert!(own.contains("Leveler") && !own.contains("Choose"), "{own}");
    assert_eq!(page.matches("href=\"/console/plans/").count(), 3);
    assert!(!page.contains("Your own limits"));

    let overrides = LimitOverrides { tokens_per_day: Some(4_321), ..LimitOverrides::default() };
    let change = UserChange { overrides: Some(overrides), ..UserChange::default() };
    let by = AuditContext::operator(clock::now());
    control.store.change_user(ada.user.id, &change, &by).await.unwrap();
    let page = browser.get(PLANS).await.text;
    assert!(page.contains("Your own limits") && page.contains("4,321"), "{page}");
    assert!(!page.contains("Cached prompt tokens"), "counted in full, as by most plans");
    let in_part = CachedTokenFraction::from_thousandths(125);
    let in_part = PlanChange { cached_token_fraction: in_part, ..PlanChange::default() };
    control.store.change_plan(&PlanId::from("log-min"), &in_part, &by).await.unwrap();
    let page = browser.get(PLANS).await.text;
    assert_eq!(page.matches("Cached prompt tokens").count(), 1, "{page}");
    assert!(page.contains("count as 12.5 % of a token"), "{page}");
    let form = browser.get("/console/plans/log-min").await.text;
    for part in ["count as 100 % of a token", "count as 12.5 % of a token"] {
        assert!(form.contains(part), "{part}: {form}");
    }
    // A plan that takes no new users is shown to those who have it alone.
    let retired = PlanChange { retired: Some(true), ..PlanChange::default() };
    for plan in ["leveler", "high-max"] {
        control.store.change_plan(&PlanId::from(plan), &retired, &by).await.unwrap();
    }
    let page = browser.get(PLANS).await.text;
    assert!(page.contains("Leveler") && !page.contains("High Max"), "{page}");
    assert_eq!(browser.get("/console/plans/high-max").await.status, StatusCode::CONFLICT);
    assert_eq!(browser.post("/console/plans/high-max", &[]).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn where_billing_is_open_a_plan_is_had_at_once() {
    let control = control_with(OPEN, None).await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    assert!(!browser.get(PLANS).await.text.contains("An admin decides"));
    let form = browser.get("/console/plans/high-max").await.text;
    for part in [
        "Leveler",
        "High Max",
        "$4.00 a month",
        "$100.00 a month",
        "5,000",
        "100,000",
        "Today you have used 0 tokens",
        "Change to this plan",
    ] {
        assert!(form.contains(part), "{part}: {form}");
    }
    assert!(!form.contains("calls are refused until"), "{form}");
    let reply = browser.post("/console/plans/high-max", &[]).await;
    assert_eq!(reply.header("location"), "/console/plans?done=changed", "{}", reply.text);
    assert_eq!(plan_of(&control, &ada).await, "high-max");
    assert!(
        browser.get("/console/plans?done=changed").await.text.contains("Your plan was changed.")
    );
    // Sent again, and asked for the plan that one has.
    let again = browser.post("/console/plans/high-max", &[]).await;
    assert_eq!(again.header("location"), "/console/plans?done=changed");
    assert_eq!(browser.get("/console/plans/high-max").await.header("location"), PLANS);
    for nothing in ["/console/plans/none", "/console/plans/%3Cscript%3E"] {
        assert_eq!(browser.get(nothing).await.status, StatusCode::NOT_FOUND, "{nothing}");
        assert_eq!(browser.post(nothing, &[]).await.status, StatusCode::NOT_FOUND, "{nothing}");
    }
    let window = Window { capacity: 7, refill_seconds: 11 };
    let smaller =
        PlanChange { tokens_per_day: Some(0), window: Some(window), ..PlanChange::default() };
    let by = AuditContext::operator(clock::now());
    control.store.change_plan(&PlanId::from("log-min"), &smaller, &by).await.unwrap();
    let form = browser.get("/console/plans/log-min").await.text;
    assert!(
        form.contains("calls are refused until") && form.contains("7 requests in 11 s"),
        "{form}"
    );
}

#[tokio::test]
async fn where_an_admin_decides_a_request_waits_and_can_be_withdrawn() {
    let control = control().await;
    let ada = control.user().await;
    let by = AuditContext::operator(clock::now());
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let form = browser.get("/console/plans/log-min").await.text;
    assert!(form.contains("Ask for this plan"), "{form}");
    let ask = async |browser: &mut Browser<'_>| {
        let reply = browser.post("/console/plans/log-min", &[]).await;
        assert_eq!(reply.header("location"), "/console/plans?done=requested", "{}", reply.text);
    };
    ask(&mut browser).await;
    ask(&mut browser).await;
    let page = browser.get(PLANS).await.text;
    assert!(
        page.contains("You have asked for the plan Log Min.") && page.contains("Asked for"),
        "{page}"
    );
    assert_eq!(plan_of(&control, &ada).await, "leveler");
    assert_eq!(control.store.upgrades(None, None, 10).await.unwrap().len(), 1);

    let withdrawn = browser.post("/console/plans/request/withdraw", &[]).await;
    assert_eq!(withdrawn.header("location"), "/console/plans?done=withdrawn");
    let page = browser.get(PLANS).await.text;
    assert!(!page.contains("You have asked") && !page.contains("declined"), "{page}");
    let again = browser.post("/console/plans/request/withdraw", &[]).await;
    assert_eq!(again.header("location"), "/console/plans?done=withdrawn", "a double click");

    ask(&mut browser).await;
    let pending = control.store.latest_upgrade(ada.user.id).await.unwrap().unwrap();
    control.store.decide_upgrade(pending.id, false, &by).await.unwrap();
    assert!(
        browser.get(PLANS).await.text.contains("Your request for the plan Log Min was declined.")
    );
    ask(&mut browser).await;
    let pending = control.store.latest_upgrade(ada.user.id).await.unwrap().unwrap();
    assert_eq!(pending.status, UpgradeStatus::Pending);
    control.store.decide_upgrade(pending.id, true, &by).await.unwrap();
    let page = browser.get(PLANS).await.text;
    assert!(!page.contains("You have asked") && !page.contains("declined"), "{page}");
    assert_eq!(plan_of(&control, &ada).await, "log-min");
    // What is decided cannot be withdrawn.
    let late = browser.post("/console/plans/request/withdraw", &[]).await;
    assert_eq!(late.header("location"), "/console/plans?done=decided");
    let page = browser.get(late.header("location")).await.text;
    assert!(page.contains("Your request was decided before you withdrew it."), "{page}");
    assert_eq!(plan_of(&control, &ada).await, "log-min");
}

#[tokio::test]
async fn another_plan_needs_a_password_that_was_entered_lately() {
    let control = control_with(OPEN, None).await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    browser.get(PLANS).await;
    browser.expire_confirmation().await;
    let asked = "/console/confirm?next=%2Fconsole%2Fplans%2Fhigh-max";
    assert_eq!(browser.get("/console/plans/high-max").await.header("location"), asked);
    assert_eq!(browser.post("/console/plans/high-max", &[]).await.header("location"), asked);
    assert_eq!(plan_of(&control, &ada).await, "leveler");
}
