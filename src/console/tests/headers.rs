//! Headers, errors, languages and files of pages.

use super::*;

#[tokio::test]
async fn every_page_has_the_policy_and_is_not_kept() {
    let control = control().await;
    let user = control.user().await.user;
    let mut browser = Browser::logged_in(&control, &user.email).await;
    for (path, status) in [
        ("/console", 200),
        ("/console/", 200),
        ("/console/meters", 200),
        ("/console/signup", 303),
        ("/console/nothing", 404),
        ("/console/assets/nothing", 404),
    ] {
        let reply = browser.get(path).await;
        assert_eq!(reply.status.as_u16(), status, "{path}");
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(reply.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        assert!(!reply.text.contains("<style") && !reply.text.contains(" style="), "{path}");
        assert!(!reply.text.contains(" on") || !reply.text.contains("onclick"), "{path}");
    }
    assert!(browser.get("/console").await.header("vary").contains("HX-Request"));
    // The JSON API keeps its own.
    let api = control.get("/api", None).await;
    assert_eq!(api.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
}

#[tokio::test]
async fn files_are_named_by_their_content_and_kept() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    let page = browser.get("/console/login").await.text;
    let paths: Vec<&str> =
        page.split('"').filter(|part| part.starts_with("/console/assets/")).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    for path in paths {
        let reply = browser.get(path).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        assert_eq!(reply.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert!(!reply.header("content-type").is_empty() && !reply.text.is_empty());
    }
}

#[tokio::test]
async fn pages_speak_the_language_of_the_browser_or_the_chosen_one() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    browser.headers.push(("accept-language", "zh-CN,zh;q=0.9".to_owned()));
    let page = browser.get("/console/login").await.text;
    assert!(page.contains("lang=\"zh-CN\"") && page.contains("登录"), "{page}");
    let fields = [("language", "en"), ("theme", "dark"), ("next", "/console/login")];
    let reply = browser.post("/console/preferences", &fields).await;
    assert_eq!(reply.header("location"), "/console/login");
    let page = browser.get("/console/login").await.text;
    assert!(
        page.contains("<html lang=\"en\" data-theme=\"dark\">") && page.contains("Log in"),
        "{page}"
    );
}

#[tokio::test]
async fn a_browser_at_the_root_gets_the_console() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    assert_eq!(browser.get("/").await.json()["name"], "KnockXPrime");
    browser.headers.push(("accept", "text/html,*/*;q=0.8".to_owned()));
    let reply = browser.get("/").await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/console/"));
}

#[tokio::test]
async fn fragments_lead_the_whole_page_to_log_in() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    browser.headers.push(("hx-request", "true".to_owned()));
    let reply = browser.get("/console/meters").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.header("hx-redirect").starts_with("/console/login"), "{:?}", reply.headers);
}

#[tokio::test]
async fn text_of_users_stays_text() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    browser.get("/console/login").await;
    let hostile = "\"><script>alert(1)</script>";
    for page in ["/console/login", "/console/signup"] {
        let reply = browser.post(page, &[("email", hostile), ("password", "some password")]).await;
        assert!(!reply.text.contains("<script>alert"), "{}", reply.text);
        assert!(reply.text.contains("&#34;&#62;&#60;script&#62;"), "{}", reply.text);
    }
    let reply = browser.get("/console/%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert!(!reply.text.contains("<script>alert"), "{}", reply.text);
}
