//! Pages of admins.

use super::*;
use crate::control::tests::Person;
use domain::actor::AuditContext;
use domain::charge::Status;
use domain::id::{PlanId, RequestId};
use domain::key::KeyLimits;
use domain::refresh_token::RefreshToken;
use domain::user::{Role, User, UserStatus};
use jiff::ToSpan;
use store::{KeyChange, NewUser, UserChange};
use system::clock;

/// Pages of admins that exist without a record.
const PAGES: [&str; 13] = [
    "/console/admin",
    "/console/admin/users",
    "/console/admin/users/new",
    "/console/admin/keys",
    "/console/admin/plans",
    "/console/admin/plans/new",
    "/console/admin/upgrades",
    "/console/admin/models",
    "/console/admin/upstreams",
    "/console/admin/system",
    "/console/admin/audit",
    "/console/admin/usage",
    "/console/admin/announcements",
];

/// A control plane with the admin Root, in a browser of hers, and the user Ada.
async fn people(control: &Control) -> (Browser<'_>, Person, Person) {
    let (ada, root) = (control.user().await, control.admin().await);
    let mut browser = Browser::logged_in(control, &root.user.email).await;
    browser.get("/console").await;
    (browser, ada, root)
}

async fn current(control: &Control, user: &User) -> User {
    control.store.user(user.id).await.unwrap().unwrap()
}

/// What a person reads on a page: without tags, and with one space between words.
fn words(page: &str) -> String {
    let body = page.split_once("<main").map_or(page, |(_, rest)| rest);
    let body = body.split_once("</main>").map_or(body, |(body, _)| body);
    let text = body.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    let text = text.collect::<Vec<_>>().join(" ").replace("&#39;", "'");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn admin_pages_exist_for_admins_alone() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let id = ada.user.id;
    let user = format!("/console/admin/users/{id}");
    let records = ["", "/limits", "/calls", "/meters"].map(|part| format!("{user}{part}"));
    let plan = "/console/admin/plans/leveler".to_owned();
    let pages = PAGES.map(str::to_owned).into_iter().chain(records).chain([plan]);
    let pages: Vec<String> = pages.collect();
    let (mut visitor, mut browser) =
        (Browser::new(&control), Browser::logged_in(&control, &ada.user.email).await);
    let absent = browser.get("/console/nothing").await;
    for page in &pages {
        assert_eq!(root.get(page).await.status, StatusCode::OK, "{page}");
        let reply = visitor.get(page).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{page}");
        assert!(reply.header("location").starts_with("/console/login?next="), "{page}");
        let reply = browser.get(page).await;
        assert_eq!(
            (reply.status, words(&reply.text)),
            (absent.status, words(&absent.text)),
            "{page}"
        );
    }
    assert!(!browser.get("/console").await.text.contains("/console/admin"));
    assert!(root.get("/console").await.text.contains("/console/admin/users"));
    let forms = ["/change", "/limits", "/reset-usage", "/keys/0123456789ab/revoke"];
    let forms = forms.map(|form| format!("{user}{form}")).into_iter();
    let others = [
        "/console/admin/keys",
        "/console/admin/plans/new",
        "/console/admin/plans/leveler",
        "/console/admin/plans/leveler/retire",
        "/console/admin/plans/leveler/reopen",
        "/console/admin/upgrades/0199aaaa-0000-7000-8000-000000000000/approve",
        "/console/admin/upgrades/0199aaaa-0000-7000-8000-000000000000/reject",
        "/console/admin/system/reload",
    ];
    for form in forms.chain(others.map(str::to_owned)) {
        browser.get("/console").await;
        let reply = browser.post(&form, &[("status", "suspended")]).await;
        assert_eq!(
            (reply.status, words(&reply.text)),
            (absent.status, words(&absent.text)),
            "{form}"
        );
        visitor.get("/console/login").await;
        assert_eq!(visitor.post(&form, &[]).await.status, StatusCode::SEE_OTHER, "{form}");
    }
    assert_eq!(current(&control, &ada.user).await, ada.user);
}

#[tokio::test]
async fn changes_need_a_password_entered_lately() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let session = RefreshToken::parse(&root.cookies[0].1).unwrap().session();
    let long_ago = clock::now() - 16.minutes();
    control.store.confirm_session(session, long_ago).await.unwrap();
    let user = format!("/console/admin/users/{}", ada.user.id);
    root.get(&user).await;
    for (form, next) in [
        (format!("{user}/change"), user.clone()),
        (format!("{user}/reset-usage"), user.clone()),
        (format!("{user}/limits"), format!("{user}/limits")),
        (format!("{user}/keys/0123456789ab/revoke"), user.clone()),
        ("/console/admin/plans/new".to_owned(), "/console/admin/plans/new".to_owned()),
        ("/console/admin/plans/leveler".to_owned(), "/console/admin/plans/leveler".to_owned()),
        ("/console/admin/plans/leveler/retire".to_owned(), "/console/admin/plans".to_owned()),
        ("/console/admin/system/reload".to_owned(), "/console/admin/system".to_owned()),
    ] {
        let fields: &[(&str, &str)] =
            if form.ends_with("/change") { &[("status", "suspended")] } else { &[] };
        let reply = root.post(&form, fields).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{form}");
        let next = next.replace('/', "%2F");
        assert_eq!(reply.header("location"), format!("/console/confirm?next={next}"), "{form}");
    }
    assert_eq!(current(&control, &ada.user).await.status, UserStatus::Active);
    root.get("/console/confirm").await;
    root.post("/console/confirm", &[("password", PASSWORD)]).await;
    root.post(&format!("{user}/change"), &[("status", "suspended")]).await;
    assert_eq!(current(&control, &ada.user).await.status, UserStatus::Suspended);
}

#[tokio::test]
async fn users_are_found_filtered_and_paged() {
    let control = control().await;
    let (mut root, ..) = people(&control).await;
    for number in 0..55 {
        let user = NewUser {
            email: format!("number-{number}@example.com"),
            username: None,
            password_hash: None,
            email_verified: true,
            role: Role::User,
            plan: PlanId::from("leveler"),
            created_at: clock::now(),
        };
        control.store.add_user(&user, &AuditContext::operator(clock::now())).await.unwrap();
    }
    let mut list = async |query: &str| root.get(&format!("/console/admin/users{query}")).await.text;
    let first = list("").await;
    assert!(first.contains("ada@example.com") && !first.contains("number-54@"), "{first}");
    let next = first.split("rel=\"next\"").next().unwrap().rsplit("href=\"").next().unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    let second = list(next.strip_prefix("/console/admin/users").unwrap()).await;
    assert!(second.contains("number-54@") && !second.contains("ada@example.com"));
    assert!(second.contains("First page") && !second.contains("Next page"));

    let found = list("?search=ADA&plan=&status=&role=").await;
    assert!(found.contains("ada@example.com") && !words(&found).contains("number-"));
    assert!(!words(&list("?role=admin").await).contains("ada@example.com"));
    assert!(list("?status=suspended").await.contains("No user matches."));
    let hostile = list("?search=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert!(!hostile.contains("<script>alert"), "{hostile}");
    assert!(hostile.contains("&#34;&#62;&#60;script&#62;"), "{hostile}");
    for bad in ["?role=owner", "?cursor=x", "?other=1"] {
        let reply = root.get(&format!("/console/admin/users{bad}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

#[tokio::test]
async fn a_user_is_suspended_moved_and_promoted() {
    let control = control().await;
    let (mut root, ada, boss) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    let mut person = Browser::logged_in(&control, &ada.user.email).await;
    let list = "/console/admin/users?search=ada";
    root.get(list).await;
    let reply =
        root.post(&format!("{user}/change"), &[("status", "suspended"), ("next", list)]).await;
    assert_eq!(reply.header("location"), "/console/admin/users?search=ada&done=suspended");
    assert!(
        words(&root.get(reply.header("location")).await.text).contains("The user is suspended.")
    );
    assert_eq!(person.get("/console").await.status, StatusCode::SEE_OTHER);
    let reply = root.post(&format!("{user}/change"), &[("status", "active")]).await;
    assert_eq!(reply.header("location"), format!("{user}?done=active"));
    root.post(&format!("{user}/change"), &[("plan", "high-max")]).await;
    root.post(&format!("{user}/change"), &[("role", "admin")]).await;
    let now = current(&control, &ada.user).await;
    assert_eq!(
        (now.status, now.plan, now.role),
        (UserStatus::Active, PlanId::from("high-max"), Role::Admin)
    );

    let away = [("status", "suspended"), ("next", "//evil.example")];
    let reply = root.post(&format!("{user}/change"), &away).await;
    assert_eq!(reply.header("location"), "/console?done=suspended");

    let own = format!("/console/admin/users/{}", boss.user.id);
    let page = words(&root.get(&own).await.text);
    assert!(page.contains("This is your own account") && !page.contains("Set the role"));
    for fields in [("status", "suspended"), ("role", "user")] {
        let reply = root.post(&format!("{own}/change"), &[fields]).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{fields:?}");
    }
    for (fields, status) in
        [(("plan", "none"), 404), (("role", "owner"), 422), (("email", "x@y.z"), 422)]
    {
        let reply = root.post(&format!("{user}/change"), &[fields]).await;
        assert_eq!(reply.status.as_u16(), status, "{fields:?}");
    }
    for unknown in ["none", "0199aaaa-0000-7000-8000-000000000000", "%3Cscript%3E"] {
        let reply = root.get(&format!("/console/admin/users/{unknown}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{unknown}");
    }
}

#[tokio::test]
async fn a_users_page_has_meters_keys_month_and_changes() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    let empty = words(&root.get(&user).await.text);
    assert!(empty.contains("No key is in use.") && empty.contains("none: the plan's limits apply"));

    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let by = AuditContext::operator(clock::now());
    let name =
        KeyChange { name: Some("<script>alert(1)</script>".to_owned()), ..KeyChange::default() };
    control.store.change_key(ada.user.id, &key.id(), &name, &by).await.unwrap();
    control.charged(ada.user.id, |charge| charge.key = key.id()).await;
    control
        .charged(ada.user.id, |charge| {
            charge.request = RequestId::new();
            charge.status = Status::Failed;
        })
        .await;
    let page = root.get(&user).await.text;
    assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"));
    let shown = words(&page);
    for expected in [
        "Tokens today",
        "5,000",
        "grok-4.3",
        "70",
        "user.add",
        "operator, by a command",
        key.last_four(),
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let meters = root.get(&format!("{user}/meters")).await.text;
    assert!(meters.contains("Tokens today") && !meters.contains("<html"));

    let calls = root.get(&format!("{user}/calls")).await.text;
    assert!(words(&calls).contains("complete") && words(&calls).contains("failed"));
    let failed = root.get(&format!("{user}/calls?status=failed&from=&to=&model=&key=")).await.text;
    assert_eq!(failed.matches("<code>req_").count(), 1);
    let none = root.get(&format!("{user}/calls?model=other")).await.text;
    assert!(words(&none).contains("No call matches."));
    let bad = root.get(&format!("{user}/calls?from=yesterday")).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);

    root.get(&user).await;
    let reply = root.post(&format!("{user}/keys/{}/revoke", key.id()), &[]).await;
    assert_eq!(reply.header("location"), format!("{user}?done=revoked"));
    let stored = control.store.key(ada.user.id, &key.id()).await.unwrap().unwrap();
    assert!(stored.revoked_at.is_some());
    let again = root.post(&format!("{user}/keys/{}/revoke", key.id()), &[]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    let reply = root.post(&format!("{user}/reset-usage"), &[]).await;
    assert_eq!(reply.header("location"), format!("{user}?done=reset"));
}

#[tokio::test]
async fn a_key_is_found_and_revoked_without_its_secret_in_an_address() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let path = "/console/admin/keys";
    assert!(!words(&root.get(path).await.text).contains("No key matches."));
    let reply = root.post(path, &[("key", key.reveal())]).await;
    let found = format!("{path}?key={}", key.id());
    assert_eq!(reply.header("location"), found);
    let reply = root.post(path, &[("key", key.last_four())]).await;
    for address in [found.as_str(), reply.header("location")] {
        let page = root.get(address).await.text;
        assert!(page.contains("ada@example.com") && page.contains(key.last_four()), "{page}");
        assert!(!page.contains(key.reveal()));
    }
    let revoke = format!("/console/admin/users/{}/keys/{}/revoke", ada.user.id, key.id());
    let reply = root.post(&revoke, &[("next", &found)]).await;
    assert_eq!(reply.header("location"), format!("{found}&done=revoked"));
    let page = words(&root.get(&found).await.text);
    assert!(page.contains("revoked") && !page.contains("Revoke"), "{page}");
    assert!(words(&root.get(&format!("{path}?key=none")).await.text).contains("No key matches."));
}

#[tokio::test]
async fn limits_of_one_user_replace_those_of_the_plan() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let path = format!("/console/admin/users/{}/limits", ada.user.id);
    assert!(words(&root.get(&path).await.text).contains("Plan: 5,000"));
    let fields = [
        ("tokens", "7,000"),
        ("window_requests", "5"),
        ("window_seconds", "60"),
        ("scope", "some"),
        ("models", "grok-4.3"),
    ];
    let reply = root.post(&path, &fields).await;
    assert!(reply.header("location").ends_with("?done=limits"), "{} {}", reply.status, reply.text);
    let overrides = current(&control, &ada.user).await.overrides;
    assert_eq!((overrides.tokens_per_day, overrides.requests_per_day), (Some(7000), None));
    assert_eq!(overrides.window.map(|window| window.refill_seconds), Some(60));
    assert_eq!(overrides.models.as_deref().map(<[_]>::len), Some(1));
    let page = words(&root.get(path.strip_suffix("/limits").unwrap()).await.text);
    assert!(
        page.contains("7,000 tokens per day · 5 requests per 60 s · only the models grok-4.3"),
        "{page}"
    );

    // A mistake is named, and nothing that was typed is lost.
    let reply = root.post(&path, &[("tokens", "many"), ("requests", "12")]).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(reply.text.contains("role=\"alert\"") && reply.text.contains("value=\"many\""));
    assert!(
        reply.text.contains("value=\"12\"")
            && reply.text.contains("Tokens per day: enter a whole number")
    );
    for wrong in [("window_requests", "5"), ("streams", "0"), ("scope", "some")] {
        let reply = root.post(&path, &[wrong]).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    }
    assert_eq!(current(&control, &ada.user).await.overrides, overrides);
    root.post(&path, &[("scope", "plan")]).await;
    assert!(current(&control, &ada.user).await.overrides.is_empty());
}

/// The fields of a plan, as a person fills them in.
const TEAM: [(&str, &str); 16] = [
    ("id", "team"),
    ("name", "Team <b>1</b>"),
    ("price", "25.50"),
    ("tokens", "50,000"),
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

fn changed<'a>(
    fields: &[(&'a str, &'a str)],
    name: &str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    fields.iter().map(|field| if field.0 == name { (field.0, value) } else { *field }).collect()
}

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
        ("id", "team", "already exists"),
        ("id", "Team", "An id has"),
        ("name", " ", "A name has"),
        ("price", "free", "Dollars per month"),
        ("tokens", "", "Tokens per day: fill in"),
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
async fn the_overview_shows_who_used_what() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let by = AuditContext::operator(clock::now());
    let limits = domain::user::LimitOverrides {
        tokens_per_day: Some(40),
        ..domain::user::LimitOverrides::default()
    };
    let few = UserChange { overrides: Some(limits), ..UserChange::default() };
    control.store.change_user(ada.user.id, &few, &by).await.unwrap();
    control.charged(ada.user.id, |_| {}).await;
    let page = root.get("/console/admin").await.text;
    let shown = words(&page);
    for expected in [
        "Calls today 1",
        "Tokens today 35",
        "Cost today $0.000123",
        "Failed calls today 0.0 %",
        "0.2 s",
        "ada@example.com 40 tokens 87 %",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(page.contains(&format!("href=\"/console/admin/users/{}\"", ada.user.id)));
    assert!(shown.contains("Most tokens yesterday No user has made a call."), "{shown}");
    assert!(page.contains("<svg class=\"chart\""));
}

#[tokio::test]
async fn the_audit_log_is_read_by_names() {
    let control = control().await;
    let (mut root, ada, boss) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    root.post(&format!("{user}/change"), &[("plan", "log-min")]).await;
    let path = "/console/admin/audit";
    let by_root = root.get(&format!("{path}?actor=ROOT@example.com&subject=")).await.text;
    assert_eq!(by_root.matches("<code>user.change</code>").count(), 1);
    let shown = words(&by_root);
    assert!(
        shown.contains("root@example.com user.change ada@example.com plan plan leveler → log-min"),
        "{shown}"
    );
    let of_plan = root.get(&format!("{path}?subject=plan:leveler")).await.text;
    assert!(
        of_plan.contains("plan.add") && of_plan.contains("href=\"/console/admin/plans/leveler\"")
    );
    let of_user = root.get(&format!("{path}?actor=user:{}", boss.user.id)).await.text;
    assert!(of_user.contains("user.change"));
    let hostile = root.get(&format!("{path}?actor=%3Cscript%3Ealert(1)")).await.text;
    assert!(words(&hostile).contains("No entry.") && !hostile.contains("<script>alert"));
    let all = root.get(path).await.text;
    assert!(!all.contains("argon2") && !all.contains("sk-kx-"));
}

#[tokio::test]
async fn the_system_models_and_upstreams_are_shown() {
    let control = control().await;
    let (mut root, ..) = people(&control).await;
    let system = words(&root.get("/console/admin/system").await.text);
    for expected in
        ["Database in order", "Quota counters in order", env!("CARGO_PKG_VERSION"), "ready"]
    {
        assert!(system.contains(expected) || expected == "ready", "{expected}: {system}");
    }
    let reply = root.post("/console/admin/system/reload", &[]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(words(&reply.text).contains("this process cannot reload"), "{}", words(&reply.text));
    root.headers.push(("accept-language", "zh-CN".to_owned()));
    let models = root.get("/console/admin/models").await.text;
    assert!(models.contains("模型与价格") && models.contains("lang=\"zh-CN\""), "{models}");
    assert_eq!(root.get("/console/admin/upstreams").await.status, StatusCode::OK);
}

#[tokio::test]
async fn usage_of_a_month_is_shown_and_downloaded() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let path = "/console/admin/usage";
    assert!(words(&root.get(path).await.text).contains("No user has made a call."));
    control.charged(ada.user.id, |_| {}).await;
    let page = root.get(path).await.text;
    assert!(page.contains(&format!("href=\"/console/admin/users/{}\"", ada.user.id)), "{page}");
    assert!(
        words(&page).contains("ada@example.com leveler 1 0 10 cached 4 20 5 $0.000123"),
        "{}",
        words(&page)
    );
    let by_both = words(&root.get(&format!("{path}?by=user_model&month=")).await.text);
    assert!(by_both.contains("ada@example.com leveler grok-4.3 1"), "{by_both}");
    let past = root.get(&format!("{path}?month=2020-01")).await.text;
    assert!(words(&past).contains("No user has made a call.") && past.contains("2020-01"));
    let file = root.get(&format!("{path}?by=user&format=csv")).await;
    assert!(file.header("content-type").starts_with("text/csv"), "{:?}", file.headers);
    assert!(file.text.starts_with("user_id,email,") && file.text.contains("ada@example.com"));
    for bad in ["?month=soon", "?by=day", "?cursor=x"] {
        let reply = root.get(&format!("{path}{bad}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

#[tokio::test]
async fn announcements_are_made_changed_and_ended() {
    let control = control().await;
    let (mut root, ..) = people(&control).await;
    let path = "/console/admin/announcements";
    assert!(words(&root.get(path).await.text).contains("Nothing was announced."));
    let text = "<script>alert(1)</script>\r\nSunday";
    let reply = root.post(path, &[("text", text), ("level", "warning")]).await;
    assert_eq!(reply.header("location"), format!("{path}?done=announced"), "{}", reply.text);
    let page = root.get(path).await.text;
    assert!(
        !page.contains("<script>alert") && words(&page).contains("warning shown now"),
        "{page}"
    );
    let id = page.split(&format!("{path}/")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let later =
        [("text", "Monday"), ("starts_at", "2126-11-27T02:00"), ("ends_at", "2126-11-27T03:00")];
    let edit = format!("{path}/{id}");
    assert!(root.get(&edit).await.text.contains("Sunday</textarea>"));
    root.post(&edit, &later).await;
    let page = words(&root.get(path).await.text);
    assert!(
        page.contains("Monday notice not yet shown 2126-11-27 02:00 UTC 2126-11-27 03:00 UTC"),
        "{page}"
    );
    for wrong in [("ends_at", "2126-11-27T01:00"), ("starts_at", "soon")] {
        let reply = root
            .post(
                &edit,
                &[later[0], later[1], wrong]
                    .iter()
                    .copied()
                    .filter(|f| f.0 != wrong.0 || *f == wrong)
                    .collect::<Vec<_>>(),
            )
            .await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
        assert!(reply.text.contains("Monday</textarea>") && reply.text.contains("role=\"alert\""));
    }
    let empty = root.post(path, &[("starts_at", "2126-11-27T01:00")]).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(words(&empty.text).contains("A text has 1 to 500 visible characters."));
    root.post(&format!("{edit}/end"), &[]).await;
    assert!(
        words(&root.get(path).await.text).contains("Nothing was announced."),
        "it was never shown"
    );
    root.post(path, &[("text", "Now")]).await;
    let page = root.get(path).await.text;
    let id = page.split(&format!("{path}/")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    root.post(&format!("{path}/{id}/end"), &[]).await;
    assert!(words(&root.get(path).await.text).contains("Now notice ended"));
    assert_eq!(root.get(&format!("{path}/none")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_user_is_added_and_sets_a_password_by_the_link() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let path = "/console/admin/users/new";
    root.get(path).await;
    let fields =
        [("email", "Bob@Example.com"), ("username", "bob"), ("plan", "log-min"), ("role", "user")];
    let reply = root.post(path, &fields).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", words(&reply.text));
    let link = reply.text.split("token=").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let bob = control.store.user_by_email("bob@example.com").await.unwrap().unwrap();
    assert_eq!((bob.plan.as_str(), bob.role), ("log-min", Role::User));
    assert!(!root.get(&format!("/console/admin/users/{}", bob.id)).await.text.contains(&link));
    for (name, value, problem) in [
        ("email", "ada@example.com", "Another account has this"),
        ("email", "bob", "This is not an e-mail address."),
        ("username", "b", "A username has"),
        ("plan", "none", "no such record"),
    ] {
        let reply = root.post(path, &changed(&fields, name, value)).await;
        assert!(reply.status.is_client_error(), "{value}");
        assert!(words(&reply.text).contains(problem), "{value}: {}", words(&reply.text));
        assert!(
            reply.text.contains("value=\"bob\"") || name == "username",
            "what was typed is kept"
        );
    }
    // A newer link ends the one before.
    root.get(&format!("/console/admin/users/{}", bob.id)).await;
    let reply = root.post(&format!("/console/admin/users/{}/invitation", bob.id), &[]).await;
    let newer = reply.text.split("token=").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let accept = async |token: &str| {
        let form = serde_json::json!({ "token": token, "password": PASSWORD });
        control.post("/api/v1/users/accept-invitation", None, form).await.status
    };
    assert!(accept(&link).await.is_client_error());
    assert_eq!(accept(&newer).await, StatusCode::OK);
    Browser::logged_in(&control, "bob@example.com").await;
    let reply = root.post(&format!("/console/admin/users/{}/invitation", ada.user.id), &[]).await;
    assert_eq!(reply.status, StatusCode::CREATED);
}

#[tokio::test]
async fn sessions_are_ended_and_a_user_is_deleted() {
    let control = control().await;
    let (mut root, ada, boss) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    let mut person = Browser::logged_in(&control, &ada.user.email).await;
    let page = root.get(&user).await.text;
    assert!(
        words(&page).contains("Second factor off") && words(&page).contains("127.0.0.1"),
        "{}",
        words(&page)
    );
    let sessions: Vec<&str> =
        page.split("/sessions/").skip(1).filter_map(|rest| rest.split('/').next()).collect();
    assert_eq!(sessions.len(), 2, "of the API and of the console");
    for session in sessions {
        let reply = root.post(&format!("{user}/sessions/{session}/end"), &[]).await;
        assert_eq!(reply.header("location"), format!("{user}?done=session-ended"));
        let again = root.post(&format!("{user}/sessions/{session}/end"), &[]).await;
        assert_eq!(again.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(person.get("/console").await.status, StatusCode::SEE_OTHER);
    assert!(words(&root.get(&user).await.text).contains("The user is logged in nowhere."));
    let off = root.post(&format!("{user}/second-factor/remove"), &[]).await;
    assert_eq!(off.status, StatusCode::CONFLICT, "there is none");

    let delete = format!("{user}/delete");
    assert!(words(&root.get(&delete).await.text).contains("This cannot be undone."));
    let wrong = root.post(&delete, &[("email", "root@example.com")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(current(&control, &ada.user).await.email, "ada@example.com");
    let own = format!("/console/admin/users/{}/delete", boss.user.id);
    let reply = root.post(&own, &[("email", "root@example.com")]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    let reply = root.post(&delete, &[("email", "Ada@Example.com")]).await;
    assert_eq!(reply.header("location"), "/console/admin/users?done=deleted");
    assert_eq!(current(&control, &ada.user).await.status, UserStatus::Deleted);
    let page = words(&root.get(&user).await.text);
    assert!(
        page.contains("deleted") && !page.contains("Resume") && !page.contains("Set the plan"),
        "{page}"
    );
    assert!(!words(&root.get("/console/admin/users?status=deleted").await.text).contains("Resume"));
    assert_eq!(root.get(&delete).await.status, StatusCode::NOT_FOUND);
}
