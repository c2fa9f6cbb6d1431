//! Forms that are sent twice, malformed requests, and where a browser lands after a form.

use super::*;
use crate::control::tests::control_with;
use domain::user::Role;

const KEYS: &str = "/console/keys";
const NEW_KEY: &str = "/console/keys/new";
const MAIL: &str = "public_url = \"https://api.example.com\"\n[mail]\nhost = \"localhost\"\ntls = \"none\"\nfrom = \"k@example.com\"\n";

/// The key or link that a page shows once.
fn secret(page: &str) -> &str {
    page.split("<pre><code").nth(1).and_then(|rest| rest.split('>').nth(1)).unwrap_or_default()
}

#[tokio::test]
async fn a_form_that_is_sent_twice_at_once_works_once() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    browser.get(NEW_KEY).await;
    let form_id = browser.form_id.clone();
    assert!(!form_id.is_empty());
    let fields = [("name", "laptop"), ("scope", "all"), ("form_id", &*form_id)];
    let mut second = browser.clone();
    let (one, two) = tokio::join!(browser.post(NEW_KEY, &fields), second.post(NEW_KEY, &fields));
    for reply in [&one, &two] {
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
        assert_eq!(reply.header("cache-control"), "no-store");
        assert!(reply.text.contains("It is shown this one time."), "{}", reply.text);
    }
    assert!(secret(&one.text).starts_with("sk-kx-"), "{}", one.text);
    assert_eq!(secret(&one.text), secret(&two.text));
    let all = store::all_keys(&*control.store, ada.user.id).await.unwrap();
    assert_eq!(all.len(), 1);

    // Other fields, another rendering and another session are another form.
    let renamed = [("name", "server"), fields[1], fields[2]];
    assert_ne!(secret(&browser.post(NEW_KEY, &renamed).await.text), secret(&one.text));
    browser.get(NEW_KEY).await;
    assert_ne!(browser.form_id, form_id);
    let fresh = browser.form_id.clone();
    let again = browser.post(NEW_KEY, &[fields[0], fields[1], ("form_id", &fresh)]).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY, "the name is taken");
    let mut other = Browser::logged_in(&control, &ada.user.email).await;
    other.get(NEW_KEY).await;
    let reply = other.post(NEW_KEY, &fields).await;
    assert!(!reply.text.contains(secret(&one.text)), "not of this session");
}

#[tokio::test]
async fn the_result_of_a_form_ends_with_its_session() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    browser.get(NEW_KEY).await;
    let form_id = browser.form_id.clone();
    let fields = [("name", "laptop"), ("scope", "all"), ("form_id", &*form_id)];
    let mut thief = browser.clone();
    let made = browser.post(NEW_KEY, &fields).await;
    assert!(secret(&made.text).starts_with("sk-kx-"), "{}", made.text);
    browser.post("/console/logout", &[]).await;
    let replayed = thief.post(NEW_KEY, &fields).await;
    assert!(!replayed.text.contains(secret(&made.text)), "{}", replayed.text);
}

#[tokio::test]
async fn a_form_that_was_refused_can_be_sent_again() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    browser.get(NEW_KEY).await;
    let form_id = browser.form_id.clone();
    let fields = [("name", "laptop"), ("scope", "all"), ("form_id", &*form_id)];
    browser.expire_confirmation().await;
    let reply = browser.post(NEW_KEY, &fields).await;
    assert!(reply.header("location").starts_with("/console/confirm"), "{:?}", reply.headers);
    browser.get("/console/confirm").await;
    browser.post("/console/confirm", &[("password", PASSWORD)]).await;
    assert_eq!(browser.post(NEW_KEY, &fields).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_user_is_added_once_and_the_link_is_shown_without_a_mail() {
    let control = control_with(MAIL, None).await;
    let root = control.admin().await.user;
    let mut browser = Browser::logged_in(&control, &root.email).await;
    let path = "/console/admin/users/new";
    browser.get(path).await;
    let form_id = browser.form_id.clone();
    // No further mail is taken.
    control.mails.lock().await.close();
    let fields = [("email", "new@example.com"), ("send_mail", "on"), ("form_id", &*form_id)];
    let mut second = browser.clone();
    let (one, two) = tokio::join!(browser.post(path, &fields), second.post(path, &fields));
    for reply in [&one, &two] {
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
        let link = secret(&reply.text);
        assert!(link.starts_with("https://api.example.com/console/invitation?token="), "{link}");
        assert!(reply.text.contains("The link was not mailed."), "{}", reply.text);
        assert!(reply.text.contains("Too many mails are waiting"), "{}", reply.text);
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    assert_eq!(secret(&one.text), secret(&two.text));
    let again = browser.post(path, &[fields[0]]).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn an_account_that_must_be_verified_lands_on_its_page() {
    let more = format!("{MAIL}[accounts]\nrequire_verified_email = true\n");
    let control = control_with(&more, None).await;
    let mut browser = Browser::new(&control);
    browser.get("/console/signup").await;
    let fields = [("email", "new@example.com"), ("password", PASSWORD)];
    let reply = browser.post("/console/signup", &fields).await;
    assert_eq!(reply.header("location"), "/console/account?done=registered", "{}", reply.text);
    let page = browser.get(reply.header("location")).await.text;
    assert!(page.contains("Open the link in the mail that was sent to you."), "{page}");
    let reply = browser.post("/console/forgot", &[("email", "new@example.com")]).await;
    assert_eq!(reply.header("location"), "/console/forgot?done=sent", "{}", reply.text);
    assert!(browser.get(reply.header("location")).await.text.contains("is on its way to it."));
}

#[tokio::test]
async fn what_is_malformed_is_answered_by_a_page() {
    let control = control().await;
    let root = control.person("root@example.com", Role::Admin).await.user;
    let mut browser = Browser::logged_in(&control, &root.email).await;
    browser.headers.push(("accept-language", "zh-CN".to_owned()));
    browser.get(KEYS).await;
    for path in [
        "/console/keys?revoked=x",
        "/console/keys/%00",
        "/console/keys/%ff",
        "/console/account?done=%00",
        "/console/login?next=%00",
        "/console/reset?token=%00",
        "/console/usage?cursor=x",
        "/console/usage?from=1&from=2",
        "/console/usage/%00",
        "/console/plans?x=1",
        "/console/admin/users?cursor=x",
        "/console/admin/users?status=x",
        "/console/admin/users/%00",
        "/console/admin/audit?from=x",
        "/console/admin/audit?cursor=x",
        "/console/admin/usage?month=x",
        "/console/admin/calls/%00",
        "/console/admin/announcements?cursor=x",
        "/console/admin/system?failed=x",
        "/console/assets/%00",
    ] {
        let reply = browser.get(path).await;
        assert!(reply.status.is_client_error(), "{path}: {}", reply.status);
        is_page(path, &reply);
    }
    let long = "x".repeat(70_000);
    let csrf = browser.csrf.clone();
    for (fields, status) in [
        (vec![("name", &*long)], 413),
        (vec![("name", "a\u{0}")], 422),
        (vec![("nothing", "x")], 422),
        (vec![("name", "a"), ("name", "b")], 422),
    ] {
        let fields: Vec<_> = fields.into_iter().chain([("csrf", &*csrf)]).collect();
        let origin = ("origin", ORIGIN.to_owned());
        let reply = browser.post_from(origin, NEW_KEY, &fields).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
        is_page(NEW_KEY, &reply);
    }
    for (method, kind, status) in
        [("POST", "application/json", 415), ("PUT", "application/x-www-form-urlencoded", 405)]
    {
        let headers = vec![("origin", ORIGIN.to_owned()), ("content-type", kind.to_owned())];
        let length = ("content-length", "100000".to_owned());
        let reply = browser.send(method, NEW_KEY, headers.clone(), Body::from("{}")).await;
        assert_eq!(reply.status.as_u16(), status);
        is_page(method, &reply);
        let headers = headers.into_iter().chain([length]).collect();
        let reply = browser.send(method, NEW_KEY, headers, Body::from("{}")).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        is_page(method, &reply);
    }
}

/// An error as a page in Chinese, without an English sentence.
#[track_caller]
fn is_page(path: &str, reply: &Reply) {
    assert!(reply.header("content-type").starts_with("text/html"), "{path}: {}", reply.text);
    let (_, alert) = reply.text.split_once("role=\"alert\">").expect(path);
    let text = alert.split('<').next().unwrap();
    assert!(text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{path}: {text}");
    assert_eq!(reply.header("cache-control"), "no-store", "{path}");
}
