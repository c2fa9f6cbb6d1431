//! The pages of a user's keys.

use super::*;
use crate::control::tests::Person;
use domain::key::KeyLimits;
use domain::user::Role;
use jiff::ToSpan;
use store::{KeyFilter, all_keys};
use system::clock;

const KEYS: &str = "/console/keys";
const NEW: &str = "/console/keys/new";
const USAGE: &str = "/api/v1/chat/usage";

/// The key that a page shows.
#[track_caller]
fn shown_key(page: &str) -> String {
    let rest = page.split("id=\"api-key\">").nth(1).unwrap_or_else(|| panic!("no key in {page}"));
    rest.split('<').next().unwrap().to_owned()
}

async fn ids(control: &Control, person: &Person) -> Vec<String> {
    let filter = KeyFilter { live: true, after: None };
    let keys = control.store.keys(person.user.id, &filter, 200).await.unwrap();
    keys.into_iter().map(|key| key.id.to_string()).collect()
}

#[tokio::test]
async fn a_key_is_created_and_shown_once() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    assert!(browser.get(KEYS).await.text.contains("You have no active key."));
    let form = browser.get(NEW).await.text;
    assert!(
        form.contains("5,000 tokens and 100 requests a day") && form.contains("grok-4.3"),
        "{form}"
    );
    let fields = [
        ("name", " laptop "),
        ("tokens", "1,234"),
        ("scope", "some"),
        ("models", "grok-4.3"),
        ("models", "grok-4.7"),
        ("expires_on", "2999-12-31"),
    ];
    let reply = browser.post(NEW, &fields).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    assert_eq!(reply.header("cache-control"), "no-store");
    let key = shown_key(&reply.text);
    assert!(reply.text.contains(&format!("Authorization: Bearer {key}")), "{}", reply.text);
    assert_eq!(control.get(USAGE, Some(&key)).await.ok()["tokens"]["limit"], 1_234);

    let list = browser.get(KEYS).await.text;
    for part in [
        "laptop",
        "1,234 tokens a day",
        "grok-4.3, grok-4.7",
        "3000-01-01 00:00 UTC",
        &key[key.len() - 4..],
    ] {
        assert!(list.contains(part), "{part}: {list}");
    }
    assert!(!list.contains(&key) && list.contains("Never"));
    // The page sent again, as by a reload.
    let again = browser.post(NEW, &fields).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(again.text.contains("You have a key with this name."), "{}", again.text);
    assert_eq!(ids(&control, &ada).await.len(), 1);
}

#[tokio::test]
async fn what_was_entered_comes_back_with_the_problem() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    browser.get(NEW).await;
    let hostile = "\"><script>alert(1)</script>";
    for (fields, problem) in [
        (vec![("name", ""), ("scope", "all")], "A name has 1 to 64"),
        (vec![("name", "a\u{200b}"), ("scope", "all")], "A name has 1 to 64"),
        (vec![("name", hostile), ("scope", "some")], "Tick at least one model"),
        (
            vec![("name", hostile), ("scope", "all"), ("models", hostile)],
            "Choose all models, or tick some",
        ),
        (
            vec![("name", hostile), ("scope", "some"), ("models", hostile)],
            "This is not a list of models.",
        ),
        (vec![("name", hostile), ("scope", "some"), ("models", "grok-nonesuch")], "grok-nonesuch"),
        (vec![("name", hostile), ("scope", "all"), ("tokens", hostile)], "Tokens per day must be"),
        (
            vec![("name", hostile), ("scope", "all"), ("requests", "1e3")],
            "Requests per day must be",
        ),
        (
            vec![("name", hostile), ("scope", "all"), ("expires_on", hostile)],
            "The last day must be",
        ),
        (
            vec![("name", hostile), ("scope", "all"), ("expires_on", "2020-01-01")],
            "must not be in the past",
        ),
    ] {
        let reply = browser.post(NEW, &fields).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
        assert!(
            reply.text.contains("role=\"alert\"") && reply.text.contains(problem),
            "{fields:?} {}",
            reply.text
        );
        assert!(!reply.text.contains("<script>alert"), "{fields:?}");
        let is_back =
            !fields[0].1.contains(hostile) || reply.text.contains("value=\"&#34;&#62;&#60;script");
        assert!(is_back, "{fields:?} {}", reply.text);
    }
    assert_eq!(ids(&control, &ada).await, Vec::<String>::new());
    let named = [("name", "<script>alert(1)</script>"), ("scope", "all")];
    let reply = browser.post(NEW, &named).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    let list = browser.get(KEYS).await.text;
    assert!(list.contains("&#60;script&#62;alert(1)") && !list.contains("<script>alert"), "{list}");
}

#[tokio::test]
async fn a_key_is_changed_and_nothing_that_was_not_touched() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    // A model of an earlier configuration, and an expiry within a day.
    let limits = KeyLimits { models: Some(["grok-1".into()].into()), ..KeyLimits::default() };
    let ends = clock::now().checked_add(5.hours()).unwrap();
    let plain = control.key(ada.user.id, Some(ends), limits).await;
    let path = format!("{KEYS}/{}", plain.id());
    let form = browser.get(&path).await.text;
    assert!(form.contains("grok-1 (not in your plan)"), "{form}");
    let day = form.split("name=\"expires_on\" value=\"").nth(1).unwrap().split('"').next().unwrap();

    let same = [
        ("name", "desk"),
        ("tokens", "300"),
        ("scope", "some"),
        ("models", "grok-1"),
        ("expires_on", day),
    ];
    let reply = browser.post(&path, &same).await;
    assert_eq!(reply.header("location"), "/console/keys?done=changed", "{}", reply.text);
    let key = control.store.key(ada.user.id, &plain.id()).await.unwrap().unwrap();
    assert_eq!((key.name.as_str(), key.limits.tokens_per_day), ("desk", Some(300)));
    assert_eq!(key.expires_at.map(jiff::Timestamp::as_millisecond), Some(ends.as_millisecond()));
    assert_eq!(key.limits.models, Some(["grok-1".into()].into()));
    assert!(browser.get("/console/keys?done=changed").await.text.contains("The key was changed."));

    let wider = [("name", "desk"), ("scope", "all")];
    browser.post(&path, &wider).await;
    let key = control.store.key(ada.user.id, &plain.id()).await.unwrap().unwrap();
    assert_eq!((key.limits, key.expires_at), (KeyLimits::default(), None));
    let gone = [("name", "desk"), ("scope", "some"), ("models", "grok-1")];
    assert_eq!(browser.post(&path, &gone).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_key_is_rotated_at_once_or_later() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let limits = KeyLimits { tokens_per_day: Some(77), ..KeyLimits::default() };
    let first = control.key(ada.user.id, None, limits.clone()).await;
    let path = format!("{KEYS}/{}/rotate", first.id());
    assert!(browser.get(&path).await.text.contains(first.last_four()));
    let reply = browser.post(&path, &[("old_key", "now")]).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    assert!(reply.text.contains(&format!("The old key, …{}, no longer works.", first.last_four())));
    let second = shown_key(&reply.text);
    assert_eq!(control.get(USAGE, Some(&second)).await.ok()["tokens"]["limit"], 77);
    control.get(USAGE, Some(first.reveal())).await.refused(401, "invalid_api_key");
    assert_eq!(browser.post(&path, &[("old_key", "now")]).await.status, StatusCode::NOT_FOUND);

    let path = format!("{KEYS}/{}/rotate", &second[6..18]);
    let reply = browser.post(&path, &[("old_key", "day")]).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    assert!(reply.text.contains(", works until "), "{}", reply.text);
    control.get(USAGE, Some(&second)).await.ok();
    control.get(USAGE, Some(&shown_key(&reply.text))).await.ok();
    // The page sent again, as by a reload.
    let again = browser.post(&path, &[("old_key", "day")]).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(again.text.contains("was rotated already"), "{}", again.text);
    assert_eq!(ids(&control, &ada).await.len(), 2);
}

#[tokio::test]
async fn a_key_is_revoked_after_a_question() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let path = format!("{KEYS}/{}/revoke", key.id());
    assert!(browser.get(&path).await.text.contains(key.last_four()));
    control.get(USAGE, Some(key.reveal())).await.ok();
    let reply = browser.post(&path, &[]).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("location")),
        (303, "/console/keys?done=revoked")
    );
    control.get(USAGE, Some(key.reveal())).await.refused(401, "invalid_api_key");
    for path in
        [path.clone(), format!("{KEYS}/{}", key.id()), format!("{KEYS}/{}/rotate", key.id())]
    {
        assert_eq!(browser.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(browser.post(&path, &[]).await.status, StatusCode::NOT_FOUND);
    assert!(browser.get(KEYS).await.text.contains("1 revoked keys"));
}

#[tokio::test]
async fn keys_of_others_cannot_be_seen_or_changed() {
    let control = control().await;
    let ada = control.user().await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let before = all_keys(&*control.store, ada.user.id).await.unwrap();
    control.person("eve@example.com", Role::User).await;
    control.admin().await;
    for other in ["eve@example.com", "root@example.com"] {
        let mut browser = Browser::logged_in(&control, other).await;
        let list = browser.get(KEYS).await.text;
        assert!(!list.contains(key.last_four()) && !list.contains(key.id().as_str()), "{list}");
        for page in ["", "/rotate", "/revoke"] {
            let path = format!("{KEYS}/{}{page}", key.id());
            assert_eq!(browser.get(&path).await.status, StatusCode::NOT_FOUND, "{other} {path}");
            let fields: &[_] =
                if page.is_empty() { &[("name", "mine"), ("scope", "all")] } else { &[] };
            assert_eq!(
                browser.post(&path, fields).await.status,
                StatusCode::NOT_FOUND,
                "{other} {path}"
            );
        }
    }
    assert_eq!(all_keys(&*control.store, ada.user.id).await.unwrap(), before);
    // Without a log-in.
    let mut visitor = Browser::new(&control);
    for page in ["", "/new", "/x", "/x/rotate", "/x/revoke"] {
        let reply = visitor.get(&format!("{KEYS}{page}")).await;
        assert!(reply.header("location").starts_with("/console/login?next="), "{page}");
        let fields = [("name", "mine"), ("scope", "all")];
        let reply = visitor.post(&format!("{KEYS}{page}"), &fields).await;
        assert!(!reply.status.is_success(), "{page} {}", reply.status);
    }
}

#[tokio::test]
async fn a_new_key_needs_a_password_that_was_entered_lately() {
    let control = control().await;
    let ada = control.user().await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    browser.get(KEYS).await;
    browser.expire_confirmation().await;
    let rotate = format!("{KEYS}/{}/rotate", key.id());
    for (path, fields) in
        [(NEW, [("name", "x"), ("scope", "all")].as_slice()), (rotate.as_str(), [].as_slice())]
    {
        let asked = format!("/console/confirm?next={}", path.replace('/', "%2F"));
        assert_eq!(browser.get(path).await.header("location"), asked);
        assert_eq!(browser.post(path, fields).await.header("location"), asked);
    }
    assert_eq!(ids(&control, &ada).await, [key.id().to_string()]);
    browser.get("/console/confirm").await;
    let reply = browser.post("/console/confirm", &[("password", PASSWORD), ("next", NEW)]).await;
    assert_eq!(reply.header("location"), NEW);
    assert_eq!(browser.get(NEW).await.status, StatusCode::OK);
}

#[tokio::test]
async fn revoked_keys_come_in_pages() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let by = domain::actor::AuditContext::operator(clock::now());
    let mut ends = Vec::new();
    for _ in 0..21 {
        let key = control.key(ada.user.id, None, KeyLimits::default()).await;
        control.store.revoke_key(&key.id(), &by).await.unwrap();
        ends.push(key.last_four().to_owned());
    }
    let first = browser.get(KEYS).await.text;
    assert!(first.contains("21 revoked keys") && !first.contains("id=\"revoked\" open"), "{first}");
    let second = browser.get("/console/keys?revoked=2").await.text;
    assert!(second.contains("id=\"revoked\" open") && second.contains("revoked=1"), "{second}");
    let rows = |page: &str| ends.iter().filter(|end| page.contains(&format!("…{end}<"))).count();
    assert_eq!((rows(&first), rows(&second)), (20, 1));
    for beyond in ["0", "999"] {
        let page = browser.get(&format!("{KEYS}?revoked={beyond}")).await;
        assert_eq!(page.status, StatusCode::OK, "{beyond}");
    }
    let bad = browser.get("/console/keys?revoked=%00").await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.text.contains("<h1>"), "a page: {}", bad.text);
}
