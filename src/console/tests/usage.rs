//! What a user has used: totals, calls, receipts and CSV.

use super::*;
use domain::charge::{Source, Status, TokenCount};
use domain::key::KeyLimits;
use domain::user::Role;
use jiff::SignedDuration;

const USAGE: &str = "/console/usage";
const CSV: &str = "/console/usage.csv";

/// The number of calls that a page lists.
fn rows(page: &str) -> usize {
    page.matches("href=\"/console/usage/req_").count()
}

#[tokio::test]
async fn nothing_used_yet_is_said() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let page = browser.get(USAGE).await.text;
    assert!(page.contains("No calls on these days.") && !page.contains("as CSV"), "{page}");
    let filtered = browser.get(&format!("{USAGE}?model=grok-4.3")).await.text;
    assert!(filtered.contains("No call matches these filters."), "{filtered}");
}

#[tokio::test]
async fn calls_are_filtered_and_added_up() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let mut requests = Vec::new();
    for number in 0..4_u32 {
        let charge = control.charged(ada.user.id, |charge| {
            charge.model = if number == 3 { "grok-4.7".into() } else { "grok-4.3".into() };
            charge.status = if number == 2 { Status::Failed } else { Status::Complete };
            charge.key = if number == 0 { key.id() } else { charge.key.clone() };
            charge.client_request_id = (number == 1).then(|| "my-own-id".into());
        });
        requests.push(charge.await.request.to_string());
    }
    let page = browser.get(USAGE).await.text;
    assert_eq!(rows(&page), 4, "{page}");
    // 4 calls of 10 + 20 + 5 tokens, and of two models.
    for part in ["grok-4.3", "grok-4.7", ">105<", ">140<", "$0.000492", "test (…", ">Failed<"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for (query, expected) in [
        ("?model=grok-4.7", 1),
        ("?status=failed", 1),
        (format!("?key={}", key.id()).as_str(), 1),
        ("?key=unknown", 0),
        ("?to=2020-01-01&from=2020-01-01", 0),
        ("?request=my-own-id", 1),
        (format!("?request={}", requests[2]).as_str(), 1),
        (format!("?request={}&model=grok-4.7", requests[2]).as_str(), 0),
        ("?key=&model=&status=&from=&to=&request=", 4),
    ] {
        let page = browser.get(&format!("{USAGE}{query}")).await;
        assert_eq!(
            (page.status, rows(&page.text)),
            (StatusCode::OK, expected),
            "{query} {}",
            page.text
        );
    }
    let narrowed = browser.get(&format!("{USAGE}?status=failed")).await.text;
    assert!(narrowed.contains("all keys and outcomes") && narrowed.contains(">140<"), "{narrowed}");
    let of_model = browser.get(&format!("{USAGE}?model=grok-4.7")).await.text;
    assert!(!of_model.contains(">140<") && !of_model.contains("all keys and outcomes"));
}

#[tokio::test]
async fn wrong_filters_are_said_on_the_page() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let hostile = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    for (query, problem) in [
        ("?status=done".to_owned(), "There is no such outcome"),
        ("?from=yesterday".to_owned(), "The days must be dates"),
        ("?from=2999-01-01".to_owned(), "The days must be dates"),
        ("?from=2020-01-01&to=2026-01-01".to_owned(), "at most 366 days"),
        (format!("?from={hostile}"), "The days must be dates"),
        ("?cursor=nonsense".to_owned(), "no such part of the list"),
        ("?nothing=1".to_owned(), "nothing"),
        ("?model=%00".to_owned(), "The value of “model” is not valid"),
    ] {
        let reply = browser.get(&format!("{USAGE}{query}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        let is_said = reply.text.contains("role=\"alert\"") && reply.text.contains(problem);
        assert!(is_said && reply.text.contains("<h1>"), "{query} {}", reply.text);
        assert!(!reply.text.contains("<script>alert"), "{query}");
    }
    for field in ["key", "model", "request"] {
        let reply = browser.get(&format!("{USAGE}?{field}={hostile}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{field}");
        assert!(!reply.text.contains("<script>alert"), "{field} {}", reply.text);
        assert!(reply.text.contains("&#34;&#62;&#60;script"), "{field} {}", reply.text);
    }
}

#[tokio::test]
async fn calls_come_in_pages_and_whole_as_csv() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let now = clock::now();
    let mut requests = Vec::new();
    for number in 0..205_i64 {
        let charge = control.charged(ada.user.id, |charge| {
            charge.admitted_at = now - SignedDuration::from_secs(number);
            charge.client_request_id = (number == 204).then(|| "=1+1".into());
        });
        requests.push(charge.await.request.to_string());
    }
    let mut path = format!("{USAGE}?model=grok-4.3");
    let mut listed = 0;
    for page in 0..7 {
        let text = browser.get(&path).await.text;
        listed += rows(&text);
        let older = text
            .split("href=\"")
            .find(|part| part.contains("cursor=") && part.contains("rel=\"next\""));
        assert_eq!(older.is_some(), page < 6, "{page}");
        assert_eq!(text.contains(">Newest<"), page > 0, "{page}");
        if let Some(older) = older {
            path = older.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
            assert!(path.contains("model=grok-4.3"), "{path}");
        }
    }
    assert_eq!(listed, 205);

    let csv = browser.get(CSV).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(csv.header("content-disposition"), "attachment; filename=\"usage.csv\"");
    assert_eq!(csv.header("cache-control"), "no-store");
    let lines: Vec<&str> = csv.text.lines().collect();
    assert_eq!(lines.len(), 206);
    assert!(lines[0].starts_with("request_id,key_id,model,"));
    let heads = lines.iter().filter(|line| line.starts_with("request_id,")).count();
    assert_eq!(heads, 1, "one head");
    assert!(lines[1].starts_with(&requests[0]) && lines[205].starts_with(&requests[204]));
    assert!(lines[205].ends_with(",'=1+1,0"), "no formula: {}", lines[205]);
    let one = browser.get(&format!("{CSV}?request={}", requests[7])).await.text;
    assert_eq!(one.lines().count(), 2);
    let none = browser.get(&format!("{CSV}?model=none")).await.text;
    assert_eq!(none.lines().count(), 1, "{none}");
    let bad = browser.get(&format!("{CSV}?status=done")).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.text.contains("<h1>"), "a page: {}", bad.text);
}

#[tokio::test]
async fn a_receipt_says_what_a_call_used_and_why_it_ended() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let charge = control.charged(ada.user.id, |charge| {
        charge.model = "grok-4.3".into();
        charge.key = key.id();
        charge.tokens = TokenCount { prompt: 214, cached: 192, completion: 12, reasoning: 87 };
        charge.cost_micro_dollars = 313;
        charge.status = Status::CutByClient;
        charge.source = Source::Estimated;
        charge.client_request_id = Some("<script>alert(1)</script>".into());
        charge.first_token_ms = None;
        charge.total_ms = 65_000;
    });
    let id = charge.await.request.to_string();
    let page = browser.get(&format!("{USAGE}/{id}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    for part in [
        id.as_str(),
        "Ended by the client",
        "The client closed the connection",
        "The gateway counted the tokens",
        ">22<",
        ">192<",
        ">12<",
        ">87<",
        ">313<",
        "$1.25",
        "$2.50",
        "$0.000313",
        "There was none",
        "1 min 5 s",
        key.last_four(),
        "&#60;script&#62;alert(1)",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(
        !page.text.contains("<script>alert") && !page.text.contains("Difference to the price list")
    );

    // A cost that the upstream reported, and a model that is gone.
    let reported = control.charged(ada.user.id, |charge| {
        charge.model = "grok-4.3".into();
        charge.cost_micro_dollars = 5_000_000;
    });
    let page = browser.get(&format!("{USAGE}/{}", reported.await.request)).await.text;
    assert!(page.contains("Difference to the price list") && page.contains("$5.00"), "{page}");
    let gone = control.charged(ada.user.id, |charge| charge.model = "grok-1".into()).await;
    let page = browser.get(&format!("{USAGE}/{}", gone.request)).await.text;
    assert!(page.contains("no longer offered") && page.contains("$0.000123"), "{page}");
}

#[tokio::test]
async fn the_receipt_of_an_abandoned_call_says_what_is_not_known() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let charge = control.charged(ada.user.id, |charge| {
        charge.model = "grok-4.3".into();
        charge.upstream = "".into();
        charge.cost_micro_dollars = 0;
        charge.status = Status::Abandoned;
        charge.source = Source::Estimated;
    });
    let request = charge.await.request;
    let page = browser.get(&format!("{USAGE}/{request}")).await.text;
    assert!(page.contains("What the upstream bills for this call is not known"), "{page}");
    assert_eq!(page.matches("Not known").count(), 2, "its upstream and its client's id: {page}");
    for untrue in ["None was reached", "The upstream reported another cost"] {
        assert!(!page.contains(untrue), "{untrue}: {page}");
    }
    // The name of the parameter in the JSON API finds it too.
    let found = browser.get(&format!("{USAGE}?request_id={request}")).await.text;
    assert_eq!(rows(&found), 1, "{found}");
}

#[tokio::test]
async fn calls_of_others_do_not_exist() {
    let control = control().await;
    let ada = control.user().await;
    let charge =
        control.charged(ada.user.id, |charge| charge.client_request_id = Some("mine".into())).await;
    control.person("eve@example.com", Role::User).await;
    control.admin().await;
    for other in ["eve@example.com", "root@example.com"] {
        let mut browser = Browser::logged_in(&control, other).await;
        let theirs = browser.get(&format!("{USAGE}/{}", charge.request)).await;
        let nobodys = browser.get(&format!("{USAGE}/{}", domain::id::RequestId::new())).await;
        assert_eq!((theirs.status, nobodys.status), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
        assert!(theirs.text.contains("You have no call with this id."), "{}", theirs.text);
        assert_eq!(browser.get(&format!("{USAGE}/nonsense")).await.status, StatusCode::NOT_FOUND);
        for query in [
            "",
            "?request=mine",
            &format!("?request={}", charge.request),
            &format!("?key={}", charge.key),
        ] {
            assert_eq!(
                rows(&browser.get(&format!("{USAGE}{query}")).await.text),
                0,
                "{other} {query}"
            );
            let csv = browser.get(&format!("{CSV}{query}")).await.text;
            assert_eq!(csv.lines().count(), 1, "{other} {query}");
        }
    }
}
