//! Rules that hold for every route, read from the source, so that a new page is under them from the start.

use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What any visitor may open or send. All other pages lead a visitor to log-in.
const PUBLIC: [&str; 13] = [
    "/console/login",
    "/console/login/code",
    "/console/oidc/start",
    "/console/oidc/callback",
    "/console/signup",
    "/console/setup",
    "/console/invitation",
    "/console/verify",
    "/console/forgot",
    "/console/reset",
    "/console/preferences",
    "/console/assets/{file}",
    "/console/{*path}",
];
/// What is below no admin page and needs a session.
const ADMIN: &str = "/console/admin";
const ELSEWHERE: &str = "https://evil.example";

/// A route as the source has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub pattern: String,
    pub is_read: bool,
    pub is_sent: bool,
}

impl Route {
    fn is_public(&self) -> bool {
        PUBLIC.contains(&self.pattern.as_str())
    }

    pub fn is_admin(&self) -> bool {
        self.pattern == ADMIN || self.pattern.starts_with("/console/admin/")
    }

    /// A path of the route; what its placeholders name does not exist.
    fn path(&self) -> String {
        let segments = self.pattern.split('/').map(|segment| {
            if segment.starts_with('{') { "00000000-0000-7000-8000-000000000000" } else { segment }
        });
        segments.collect::<Vec<_>>().join("/")
    }
}

/// Every route below `/console` in `src/console`.
pub fn routes() -> BTreeSet<Route> {
    let mut found = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console"), &mut found);
    assert!(found.len() > 8, "{found:?}");
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<Route>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.extend(routes_in(&fs::read_to_string(&path).unwrap()));
        }
    }
}

fn routes_in(source: &str) -> impl Iterator<Item = Route> {
    source.split(".route(").skip(1).filter_map(|rest| {
        let call = &rest[..end_of_call(rest)];
        let pattern = call.split('"').nth(1)?;
        let has = |method: &str| call.contains(&format!("{method}("));
        let route =
            Route { pattern: pattern.to_owned(), is_read: has("get"), is_sent: has("post") };
        pattern.starts_with("/console").then_some(route)
    })
}

/// Where the parenthesis closes that is open at the start.
fn end_of_call(text: &str) -> usize {
    let mut depth = 1;
    for (at, letter) in text.char_indices() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Browsers of a visitor, a user and an admin.
async fn browsers(control: &Control) -> [Browser<'_>; 3] {
    let user = control.user().await.user;
    let admin = control.admin().await.user;
    let mut browsers = [
        Browser::new(control),
        Browser::logged_in(control, &user.email).await,
        Browser::logged_in(control, &admin.email).await,
    ];
    browsers[0].get("/console/login").await;
    for browser in &mut browsers[1..] {
        assert_eq!(browser.get("/console").await.status, StatusCode::OK);
    }
    browsers
}

fn leads_to_log_in(reply: &Reply) -> bool {
    reply.status == StatusCode::SEE_OTHER
        && reply.header("location").starts_with("/console/login?next=%2Fconsole")
}

#[tokio::test]
async fn every_page_is_for_those_it_is_for() {
    let control = control().await;
    let [mut visitor, mut user, _] = browsers(&control).await;
    for route in routes().iter().filter(|route| route.is_read) {
        let path = route.path();
        let reply = visitor.get(&path).await;
        let is_open = !leads_to_log_in(&reply);
        assert_eq!(is_open, route.is_public(), "{path} for a visitor: {}", reply.status);
        if route.is_admin() {
            assert_eq!(user.get(&path).await.status, StatusCode::NOT_FOUND, "{path} for a user");
        }
    }
    for route in routes().iter().filter(|route| route.is_sent) {
        let path = route.path();
        let reply = visitor.post(&path, &[]).await;
        assert_eq!(
            !leads_to_log_in(&reply),
            route.is_public(),
            "{path} of a visitor: {}",
            reply.status
        );
        if route.is_admin() {
            assert_eq!(
                user.post(&path, &[]).await.status,
                StatusCode::NOT_FOUND,
                "{path} of a user"
            );
        }
    }
}

#[tokio::test]
async fn no_form_is_taken_from_another_site() {
    let control = control().await;
    let [mut visitor, mut user, mut admin] = browsers(&control).await;
    for route in routes().iter().filter(|route| route.is_sent) {
        let path = route.path();
        let browser = if route.is_admin() { &mut admin } else { &mut user };
        let csrf = browser.csrf.clone();
        for (header, token) in [
            (("origin", ELSEWHERE.to_owned()), csrf.as_str()),
            (("origin", "null".to_owned()), &csrf),
            (("origin", format!("https://{HOST}")), &csrf),
            (("origin", format!("{ORIGIN}.evil.example")), &csrf),
            (("referer", ORIGIN.to_owned()), &csrf),
            (("sec-fetch-site", "cross-site".to_owned()), &csrf),
            (("sec-fetch-site", "same-site".to_owned()), &csrf),
            (("origin", ORIGIN.to_owned()), ""),
            (("origin", ORIGIN.to_owned()), "of-another-session"),
        ] {
            let reply = browser.post_from(header.clone(), &path, &[("csrf", token)]).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path} {header:?} {token:?}");
        }
        let cross = ("origin", ELSEWHERE.to_owned());
        assert_eq!(
            visitor.post_from(cross, &path, &[]).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    // Nothing has ended the sessions.
    assert_eq!(user.get("/console").await.status, StatusCode::OK);
    assert_eq!(admin.get("/console").await.status, StatusCode::OK);
}

#[tokio::test]
async fn no_form_is_taken_as_json_or_text() {
    let control = control().await;
    let [_, mut user, mut admin] = browsers(&control).await;
    for route in routes().iter().filter(|route| route.is_sent) {
        let browser = if route.is_admin() { &mut admin } else { &mut user };
        for kind in ["application/json", "text/plain", "multipart/form-data; boundary=x"] {
            let body = Body::from(format!("csrf={}", browser.csrf));
            let headers = vec![("origin", ORIGIN.to_owned()), ("content-type", kind.to_owned())];
            let reply = browser.send("POST", &route.path(), headers, body).await;
            assert!(reply.status.is_client_error(), "{} {kind}: {}", route.pattern, reply.status);
        }
    }
}

#[tokio::test]
async fn every_answer_forbids_frames_and_foreign_content() {
    let control = control().await;
    for mut browser in browsers(&control).await {
        for route in routes() {
            let path = route.path();
            let sent = ("origin", ELSEWHERE.to_owned());
            for reply in [browser.get(&path).await, browser.post_from(sent, &path, &[]).await] {
                let policy = reply.header("content-security-policy");
                for part in [
                    "default-src 'none'",
                    "frame-ancestors 'none'",
                    "form-action 'self'",
                    "base-uri 'none'",
                ] {
                    assert!(policy.contains(part), "{path}: {policy}");
                }
                assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
                assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
                assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
                assert_eq!(reply.header("cache-control"), "no-store", "{path}");
                assert_eq!(reply.headers.get("access-control-allow-origin"), None, "{path}");
                assert_eq!(
                    reply.headers.get_all("content-security-policy").iter().count(),
                    1,
                    "{path}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_cookie_is_out_of_reach_of_scripts_and_other_sites() {
    let control = control().await;
    for over_tls in [false, true] {
        let email = format!("tls-{over_tls}@example.com");
        let mut browser = Browser::new(&control);
        let mut origin = ORIGIN.to_owned();
        if over_tls {
            browser.headers.push(("x-forwarded-proto", "https".to_owned()));
            origin = format!("https://{HOST}");
        }
        let mut cookies = Vec::new();
        for (path, fields) in [
            ("/console/signup", vec![("email", email.as_str()), ("password", PASSWORD)]),
            ("/console/preferences", vec![("language", "zh-CN"), ("theme", "dark")]),
            ("/console/logout", vec![]),
            ("/console/login", vec![("email", email.as_str()), ("password", PASSWORD)]),
        ] {
            browser.get("/console").await;
            browser.get("/console/login").await;
            let csrf = browser.csrf.clone();
            let fields: Vec<_> = fields.into_iter().chain([("csrf", csrf.as_str())]).collect();
            let reply = browser.post_from(("origin", origin.clone()), path, &fields).await;
            let set = reply.headers.get_all("set-cookie");
            cookies.extend(set.iter().map(|value| value.to_str().unwrap().to_owned()));
        }
        assert_eq!(cookies.len(), 5, "{cookies:?}");
        for cookie in cookies {
            assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
            assert!(!cookie.contains("Domain") && cookie.contains("; Path=/"), "{cookie}");
            assert_eq!(cookie.contains("; Secure"), over_tls, "{cookie}");
            assert_eq!(
                cookie.starts_with("__Host-kx="),
                over_tls && !cookie.starts_with("kx_"),
                "{cookie}"
            );
        }
    }
}

#[tokio::test]
async fn no_page_leads_to_another_site() {
    let control = control().await;
    for mut browser in browsers(&control).await {
        browser.headers.push(("x-forwarded-host", "evil.example".to_owned()));
        for route in routes() {
            for next in [
                "https://evil.example/",
                "//evil.example",
                "/\\evil.example",
                "/console@evil.example",
                "/%0d%0a",
                "/console/../evil",
                "/console/%2e%2e/evil",
            ] {
                let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("next", next)
                    .finish();
                let path = format!("{}?{query}", route.path());
                // A log-out with its token would end the session.
                let other = ("origin", ORIGIN.to_owned());
                let replies = [
                    browser.get(&path).await,
                    browser.post_from(other, &path, &[("next", next)]).await,
                ];
                for reply in replies {
                    let location = reply.header("location");
                    let is_ours = location.is_empty()
                        || location == "/console"
                        || location.starts_with("/console/")
                        || location.starts_with("/console?");
                    // Afterwards a log-in leads back to this page, query and all.
                    let leads_back = location.starts_with("/console/login?next=%2Fconsole");
                    let is_ours = is_ours && (leads_back || !location.contains("evil"));
                    assert!(is_ours, "{path} leads to {location}");
                    let links = reply
                        .text
                        .split("href=\"")
                        .skip(1)
                        .chain(reply.text.split("action=\"").skip(1));
                    for link in links {
                        assert!(
                            link.starts_with('/') && !link.starts_with("//")
                                || link.starts_with('#'),
                            "{path}: {}",
                            &link[..40.min(link.len())]
                        );
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn the_address_of_a_form_leads_to_its_page() {
    let control = control().await;
    let [_, _, mut admin] = browsers(&control).await;
    let all = routes();
    for form in all.iter().filter(|route| route.is_sent && !route.is_read) {
        let reply = admin.get(&form.path()).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", form.pattern);
        let location = reply.header("location");
        let page = all.iter().find(|route| route.is_read && route.path() == location);
        let page = page.unwrap_or_else(|| panic!("{} leads to {location}", form.pattern));
        assert!(form.pattern.starts_with(&page.pattern), "{} leads to {location}", form.pattern);
    }
}
