//! Methods, paths and keys: what is not offered is said to be so, and no spelling gets around it.

use crate::support::http_client::Call;
use crate::support::raw_socket::{RawSocket, statuses};
use crate::support::{body, by, gateway};
use domain::key::{KeyLimits, PlainKey};
use store::NewKey;

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_405_with_an_allow_header() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for method in ["GET", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", "post", "BREW"] {
        let reply =
            Call::new(gw.addr(), method, "/v1/chat/completions").key(&key.text).send().await;
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{method}");
        assert_eq!(reply.body.is_empty(), method == "HEAD", "{method}: {:?}", reply.body);
    }
    let reply = Call::post(gw.addr(), "/v1/models").key(&key.text).send().await;
    assert_eq!((reply.status, reply.header("allow")), (405, "GET"));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_bypasses_the_routes() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = body("hi", "");
    for path in [
        "/v1",
        "/v1/",
        "/v1/unknown",
        "/v1/chat",
        "/v1/chat/completions/x",
        "/v1/chat/completions//",
        "/v1/./chat/completions",
        "/v1/../health/ping",
        "/v1/../v1/chat/completions",
        "/v1/%2e%2e/health/ping",
        "/v1/chat%2Fcompletions",
        "/v1/chat/completions%00",
        "/v1/chat/completions;a=b",
        "/v1/Chat/completions",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/%76%31/chat/completions",
        "/health/../v1/chat/completions",
        "/api/v1/../../v1/chat/completions",
        "/api//v1/chat/completions",
        "/v1\\chat\\completions",
    ] {
        let mut raw = RawSocket::connect(gw.addr()).await;
        let reply = raw
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{text}",
                key.text,
                text.len()
            ))
            .await
            .everything()
            .await;
        assert!(matches!(statuses(&reply)[..], [404 | 405]), "{path}: {reply}");
        if path.starts_with("/v1") {
            assert!(reply.contains(r#""type":"invalid_request_error""#), "{path}: {reply}");
        }
    }
    assert_eq!(gw.simulator.log.totals().requests, 0);
    for path in ["/v1/chat/completions/", "/api/v1/chat/completions", "/v1/chat/completions?a=b#c"]
    {
        let reply = Call::post(gw.addr(), path).key(&key.text).body(text.clone()).send().await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    let long = Call::get(gw.addr(), &format!("/v1/models/{}", "m".repeat(30_000))).key(&key.text);
    let reply = long.send().await;
    assert_eq!(reply.status, 404);
    assert!(reply.body.len() < 1000, "what is said back is short: {}", reply.body.len());
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_bad_key_is_401_and_costs_nothing() {
    let gw = gateway().start().await;
    let (good, revoked) = (gw.key("wide").await, gw.key("wide").await);
    gw.running.store.revoke_key(&revoked.id, &by()).await.unwrap().unwrap();
    let plain = PlainKey::generate().unwrap();
    let expired = NewKey {
        id: plain.id(),
        digest: plain.digest(&gw.running.pepper),
        last_four: plain.last_four().to_owned(),
        name: "expired".to_owned(),
        created_at: jiff::Timestamp::now(),
        expires_at: Some(jiff::Timestamp::UNIX_EPOCH),
        limits: KeyLimits::default(),
    };
    gw.running.store.add_key(good.user, &expired, &by()).await.unwrap();
    // The public half of a real key with a secret and a checksum of another's.
    let stranger = PlainKey::generate().unwrap();
    let mixed = format!("{}{}", &good.text[..18], &stranger.reveal()[18..]);
    let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
    for (fields, says) in [
        (String::new(), "didn't provide an API key"),
        ("Authorization: \r\n".to_owned(), "didn't provide an API key"),
        (format!("Authorization: Basic {}\r\n", good.text), "didn't provide an API key"),
        (format!("Authorization: {}\r\n", good.text), "didn't provide an API key"),
        (format!("{}{}", bearer(&good.text), bearer(&good.text)), "didn't provide an API key"),
        (bearer(&format!("{} x", good.text)), "Incorrect API key"),
        (bearer(&good.text.to_uppercase()), "Incorrect API key"),
        (bearer("\u{e9}"), "didn't provide an API key"),
        (bearer(&"k".repeat(20_000)), "Incorrect API key"),
        (bearer(&mixed), "Incorrect API key"),
        (bearer(stranger.reveal()), "Incorrect API key"),
        (bearer(&revoked.text), "revoked"),
        (bearer(plain.reveal()), "expired"),
    ] {
        for route in ["POST /v1/chat/completions", "GET /v1/models"] {
            let call = format!("{route} HTTP/1.1\r\nHost: g\r\n{fields}Connection: close\r\n\r\n");
            let reply = RawSocket::connect(gw.addr()).await.send(call).await.everything().await;
            assert_eq!(statuses(&reply), [401], "{fields}: {reply}");
            assert!(reply.contains(says), "{fields}: {reply}");
            assert!(reply.to_lowercase().contains("www-authenticate: bearer"), "{reply}");
        }
    }
    assert_eq!(gw.used(good.user).await, (0, 0));
    gw.finish().await;
}
