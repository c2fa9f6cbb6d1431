//! Attacks. Forged tokens are in `auth/access_token.rs`, look-alike names in `account::user`.

use super::*;
use domain::label::is_unseen;
use std::time::Duration;

const LOGIN: &str = "/api/v1/users/login";
const PROFILE: &str = "/api/v1/users/profile";

async fn try_login(control: &Control, email: &str, password: &str, from: &str) -> Reply {
    let form = json!({ "email": email, "password": password });
    control.ask("POST", LOGIN, Ask { from: Some(from), ..Ask::default() }.json(form)).await
}

#[tokio::test]
async fn guessing_at_an_account_has_to_wait_and_nobody_else_does() {
    let control = control().await;
    let ada = control.user().await;
    for _ in 0..5 {
        let reply = try_login(&control, &ada.user.email, "wrong", "198.51.100.1").await;
        reply.refused(401, "invalid_credentials");
    }
    let refused = try_login(&control, &ada.user.email, PASSWORD, "198.51.100.1").await;
    refused.refused(429, "too_many_tries");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    // An account that is not there waits as well: nothing tells it from one that is.
    for _ in 0..5 {
        try_login(&control, "unknown@example.com", "wrong", "198.51.100.2").await;
    }
    let reply = try_login(&control, "unknown@example.com", "wrong", "198.51.100.2").await;
    reply.refused(429, "too_many_tries");
    let eve = control.person("eve@example.com", Role::User).await;
    control.get(PROFILE, Some(&eve.token)).await.ok();
    control.get(PROFILE, Some(&ada.token)).await.ok();
    try_login(&control, &ada.user.email, PASSWORD, "198.51.100.3").await.ok();
}

#[tokio::test]
async fn guesses_from_changing_addresses_lock_nobody_out() {
    let control = control_with("[accounts]\naccount_tries = 1\n", None).await;
    let ada = control.user().await;
    try_login(&control, &ada.user.email, PASSWORD, "192.0.2.1").await.ok();
    for number in 0..14 {
        for network in ["198.51.100", "203.0.113", "192.0.2"] {
            let from = format!("{network}.{}", number + 10);
            let reply = try_login(&control, &ada.user.email, "wrong", &from).await;
            assert!([401, 429].contains(&reply.status.as_u16()), "{}", reply.status);
        }
    }
    try_login(&control, &ada.user.email, PASSWORD, "192.0.2.1").await.ok();
    try_login(&control, &ada.user.email, PASSWORD, "198.18.0.1").await.ok();
    // An account under attack gives one guess to a host that it does not know.
    let wrong = async || try_login(&control, &ada.user.email, "wrong", "198.18.0.2").await;
    wrong().await.refused(401, "invalid_credentials");
    let refused = wrong().await;
    refused.refused(429, "too_many_tries");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 800);
}

#[tokio::test]
async fn guessing_from_an_address_has_to_wait_whatever_the_account() {
    let control = control_with("[accounts]\naddress_tries = 3\n", None).await;
    let ada = control.user().await;
    for number in 0..3 {
        let email = format!("a{number}@example.com");
        try_login(&control, &email, "wrong", "2001:db8::1")
            .await
            .refused(401, "invalid_credentials");
    }
    // The next address of the same network is the same host.
    let refused = try_login(&control, &ada.user.email, PASSWORD, "2001:db8::2").await;
    refused.refused(429, "too_many_tries");
    try_login(&control, &ada.user.email, PASSWORD, "192.0.2.1").await.ok();
}

#[tokio::test]
async fn a_header_makes_nobody_another_client() {
    let control = control_with("[accounts]\naddress_tries = 2\n", None).await;
    let tried = async |number: u32| {
        let form = json!({ "email": format!("a{number}@example.com"), "password": "wrong" });
        let mut ask = Ask { from: Some("192.0.2.1"), ..Ask::default() }.json(form);
        ask.headers.push(("x-forwarded-for", format!("203.0.113.{number}")));
        control.ask("POST", LOGIN, ask).await.status.as_u16()
    };
    assert_eq!([tried(1).await, tried(2).await, tried(3).await], [401, 401, 429]);
}

/// A flood of guesses does not keep others from logging in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_guesses_leave_others_their_log_in() {
    let control = Arc::new(control().await);
    let ada = control.user().await;
    control.person("victim@example.com", Role::User).await;
    let flood = tokio_util::task::TaskTracker::new().spawn({
        let control = Arc::clone(&control);
        async move {
            let guess = async |number: u32| {
                let from = format!("198.51.100.{}", number % 4);
                try_login(&control, "victim@example.com", "wrong", &from).await.status.as_u16()
            };
            let mut refused = 0;
            for round in 0..100 {
                let many = (0..100).map(|number| guess(round * 100 + number));
                let statuses = futures_util::future::join_all(many).await;
                refused += statuses.into_iter().filter(|status| *status == 429).count();
            }
            refused
        }
    });
    let mut times = Vec::new();
    while !flood.is_finished() || times.len() < 20 {
        let began = clock::instant();
        try_login(&control, &ada.user.email, PASSWORD, "192.0.2.1").await.ok();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    println!("{} log-ins beside 10,000 guesses: p99 {p99:?}", times.len());
    // The free tries, and those that come back while a busy machine takes its time.
    assert!(flood.await.unwrap() >= 9_800, "but for the free tries all are refused unheard");
    // Not optimised, and the flood runs beside it: docs/benchmarks.md has the figure of a release. A
    // queue of the flood's hashes would take minutes.
    assert!(p99 < Duration::from_secs(2), "{p99:?}");
}

#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let control =
        control_with("[accounts]\naccount_tries = 1000\naddress_tries = 1000\n", None).await;
    let ada = control.user().await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    // The quickest of many is what the work takes; all above it is the machine's. A busy machine is
    // given more tries: an answer without its hash would be quicker by far however often it is asked.
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let mut apart = f64::INFINITY;
    for _ in 0..10 {
        // Side by side, so that whatever else the machine does hits both.
        for _ in 0..20 {
            for (email, times) in
                [(&*ada.user.email, &mut known), ("unknown@example.com", &mut unknown)]
            {
                let began = clock::instant();
                let reply = control.login(email, "wrong").await;
                times.push(began.elapsed().as_secs_f64());
                reply.refused(401, "invalid_credentials");
            }
        }
        let (known, unknown) = (least(&known), least(&unknown));
        apart = (known - unknown).abs() / known.max(unknown);
        if apart < 0.1 {
            break;
        }
    }
    assert!(apart < 0.2, "known {:.4} s, unknown {:.4} s", least(&known), least(&unknown));
    let text = |reply: Reply| reply.json()["error"].clone();
    let (known, unknown) = (control.login(&ada.user.email, "wrong").await, "unknown@example.com");
    assert_eq!(text(known), text(control.login(unknown, "wrong").await));
}

#[tokio::test]
async fn long_passwords_are_refused_before_they_are_hashed() {
    let control = control().await;
    let began = clock::instant();
    for (length, status) in [(1_000_000, 413), (60_000, 422), (1025, 422)] {
        let reply = control.login("ada@example.com", &"x".repeat(length)).await;
        assert_eq!(reply.status, status);
    }
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// Strings that some parser treats specially: each is refused or stored as it is.
const HOSTILE: [&str; 10] = [
    "' or '1'='1",
    "'; drop table users; --",
    "\" or \"\"=\"",
    "$1",
    "%",
    "\\",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "a\r\nX-Injected: yes",
    "\u{202e}dlrow",
];

#[tokio::test]
async fn hostile_texts_are_refused_or_kept_as_they_are() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let (token, admin) = (Some(&*ada.token), Some(&*root.token));
    for text in HOSTILE {
        let named = control.post("/api/v1/keys", token, json!({ "name": text })).await;
        match named.status.as_u16() {
            201 => {
                assert_eq!(named.json()["name"], text);
                assert!(!text.chars().any(is_unseen), "{text:?} is accepted");
            }
            422 => assert!(text.chars().any(is_unseen), "{text:?}: {}", named.text),
            other => panic!("{text:?}: {other}"),
        }
        for (path, field) in
            [("/api/v1/users/register", "email"), ("/api/v1/users/register", "username")]
        {
            let mut form = json!({ "email": "x@example.com", "password": PASSWORD });
            form[field] = json!(text);
            control.post(path, None, form).await.invalid(field);
        }
        control
            .post("/api/v1/plans/upgrade", token, json!({ "plan_id": text }))
            .await
            .refused(404, "plan_not_found");
        let query: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for path in [
            format!("/api/v1/admin/users?search={query}"),
            format!("/api/v1/admin/users?plan={query}"),
            format!("/api/v1/admin/audit?actor={query}"),
            format!("/api/v1/admin/audit?subject={query}"),
            format!("/api/v1/usage/history?model={query}"),
            format!("/api/v1/usage/history?key={query}"),
            format!("/api/v1/plans/{query}"),
            format!("/api/v1/admin/users/{query}"),
            format!("/api/v1/keys/{query}"),
        ] {
            let reply = control.get(&path, admin).await;
            assert!(reply.status.as_u16() < 500, "{path}: {}", reply.text);
            assert!(reply.headers.get("x-injected").is_none());
            if path.contains('?') && reply.status == 200 {
                assert_eq!(reply.json()["data"], json!([]), "{path} finds nothing: {}", reply.text);
            }
        }
    }
    let users = control.get("/api/v1/admin/users", admin).await.ok();
    assert_eq!(users["data"].as_array().unwrap().len(), 2, "all are still there");
}

#[tokio::test]
async fn tokens_of_those_who_are_gone_open_nothing() {
    let control = control().await;
    let ada = control.user().await;
    control
        .store
        .change_user(
            ada.user.id,
            &store::UserChange { password_hash: Some("!".to_owned()), ..Default::default() },
            &AuditContext::operator(clock::now()),
        )
        .await
        .unwrap();
    control.get(PROFILE, Some(&ada.token)).await.refused(401, "invalid_token");
    // A token of another gateway, with another secret.
    let other = auth::access_token::AccessTokens::new(b"another", Duration::from_secs(900));
    let bearer = auth::access_token::TokenSubject {
        user: ada.user.id,
        session: domain::id::SessionId::new(),
    };
    let forged = other.issue(bearer, clock::now()).unwrap();
    control.get(PROFILE, Some(&forged)).await.refused(401, "invalid_token");
}

#[tokio::test]
async fn a_refusal_repeats_little_of_what_was_sent() {
    let control = control().await;
    let ada = control.user().await;
    let long = "x".repeat(10_000);
    for (path, form) in [
        ("/api/v1/keys", json!({ "name": "a", long.as_str(): 1 })),
        ("/api/v1/keys", json!({ "name": long })),
        ("/api/v1/keys", json!({ "name": "a", "models": [long] })),
        ("/api/v1/plans/upgrade", json!({ "plan_id": long })),
        ("/api/v1/users/login", json!({ "email": long, "password": "p" })),
        ("/api/v1/users/refresh", json!({ "refresh_token": long })),
    ] {
        let reply = control.post(path, Some(&ada.token), form).await;
        assert!(reply.status.is_client_error(), "{path}: {}", reply.status);
        assert!(reply.text.len() < 2000, "{path}: {} bytes", reply.text.len());
    }
    let query = format!("/api/v1/keys?{long}=1");
    assert!(control.get(&query, Some(&ada.token)).await.text.len() < 2000);
}
