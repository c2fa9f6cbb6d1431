//! HTTP/2 to callers, on the plain port and over TLS: as HTTP/1.1 in all that can be seen.

use crate::support::http_client::{Call, Shared};
use crate::support::{Gateway, body, gateway, soon};
use domain::charge::Status;
use knockx::app::Running;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const STREAM: &str = r#","stream":true"#;

async fn plain(gw: &Gateway) -> Shared {
    Shared::over(TcpStream::connect(gw.addr()).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_on_one_connection_are_answered_and_charged() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let shared = plain(&gw).await;
    let texts: Vec<String> = (0..50).map(|n| body(&format!("call {n}"), STREAM)).collect();
    let calls = texts.iter().map(|text| shared.send(gw.chat(&key, text)));
    for (text, reply) in texts.iter().zip(futures_util::future::join_all(calls).await) {
        assert!(reply.status == 200 && reply.is_done(), "{}", reply.text());
        assert_eq!(reply.answer(), gw.ask(&key, text).await.answer());
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!(charge.status, Status::Complete);
    }
    let whole = shared.send(gw.chat(&key, &body("whole", ""))).await;
    assert_eq!(whole.json()["object"], "chat.completion");
    let wrong = shared.send(Call::get(gw.addr(), "/v1/models").key("sk-kx-wrong")).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "invalid_api_key"));
    let health = shared.send(Call::get(gw.addr(), "/health")).await;
    assert_eq!(health.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_ends_one_call_and_not_the_others() {
    let gw = gateway()
        .simulator(|s| (s.token_gap, s.tokens) = (Duration::from_millis(5), 400))
        .start()
        .await;
    let key = gw.key("wide").await;
    let shared = plain(&gw).await;
    let stays = shared.send(gw.chat(&key, &body("stays", STREAM)));
    let leaves = async {
        let mut open = shared.open(gw.chat(&key, &body("leaves", STREAM))).await;
        let request = open.headers["x-request-id"].to_str().unwrap().to_owned();
        open.next().await.expect("tokens flow");
        drop(open);
        soon("the upstream is cancelled", || async {
            gw.simulator.log.entries().iter().any(|entry| entry.aborted_by_client)
        })
        .await;
        request
    };
    let (stayed, left) = tokio::join!(stays, leaves);
    assert!(stayed.is_done());
    assert_eq!(gw.charge(&left).await.status, Status::CutByClient);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_and_the_connection_stays() {
    let gw = gateway().limits("body_bytes = 100000").start().await;
    let key = gw.key("wide").await;
    let shared = plain(&gw).await;
    let large = shared.send(gw.chat(&key, &body(&"x".repeat(200_000), ""))).await;
    assert_eq!(large.status, 413);
    let after = shared.send(gw.chat(&key, &body("after", ""))).await;
    assert_eq!(after.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_count_as_connections_do() {
    let gw = gateway().listener("max_connections = 3").start().await;
    let key = gw.key("wide").await;
    let shared = plain(&gw).await;
    let slow = || gw.chat(&key, &body("slow", STREAM)).header("x-sim-token-ms", "1000");
    let open = [shared.open(slow()).await, shared.open(slow()).await];
    let refused = shared.try_open(gw.chat(&key, &body("one too many", ""))).await;
    assert!(refused.is_none(), "it was not served");
    drop(open);
    soon("there is room again", || async {
        shared
            .try_open(gw.chat(&key, &body("hi", "")))
            .await
            .is_some_and(|reply| reply.status == 200)
    })
    .await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let gw = gateway().listener("keepalive = 0.3\nheader_timeout = 0.3").start().await;
    for beginning in
        ["PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"]
    {
        let mut stream = TcpStream::connect(gw.addr()).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        let _ = closed.await.expect("it is closed");
    }
    gw.finish().await;
}

/// Certificate and key for `localhost`, written to a folder.
fn certificate(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

async fn secured(
    gw: &Gateway,
    certificate: &CertificateDer<'static>,
    offer: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(gw.addr()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn reload(running: &Running, folder: &Path) {
    let files = knockx::config::TlsFiles {
        certificate: folder.join("cert.pem").display().to_string(),
        key: folder.join("key.pem").display().to_string(),
    };
    running.reload_tls(&files).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_selects_the_protocol_and_certificates_are_reloaded() {
    let folder = tempfile::TempDir::new().unwrap();
    let first = certificate(folder.path());
    let at = |name: &str| folder.path().join(name);
    let files = format!("tls_certificate = {:?}\ntls_key = {:?}", at("cert.pem"), at("key.pem"));
    let gw = gateway().listener(&files).start().await;
    let key = gw.key("wide").await;
    let text = body("hi", STREAM);

    let shared = Shared::over(secured(&gw, &first, &["h2", "http/1.1"]).await.unwrap()).await;
    assert!(shared.send(gw.chat(&key, &text)).await.is_done());
    let mut stream = secured(&gw, &first, &["http/1.1"]).await.unwrap();
    let request = crate::support::raw_socket::chat(&key.text, "connection: close\r\n", &text);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    let _ = stream.read_to_string(&mut reply).await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("[DONE]"), "{reply}");

    let second = certificate(folder.path());
    reload(&gw.running, folder.path());
    assert!(secured(&gw, &first, &["h2"]).await.is_err(), "the old one is gone");
    let renewed = Shared::over(secured(&gw, &second, &["h2"]).await.unwrap()).await;
    assert!(renewed.send(gw.chat(&key, &text)).await.is_done());
    assert!(shared.send(gw.chat(&key, &text)).await.is_done(), "open connections stay");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_accepts_calls_only_on_new_connections() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let shared = plain(&gw).await;
    let slow = gw.chat(&key, &body("slow", STREAM));
    let slow = slow.header("x-sim-tokens", "60").header("x-sim-token-ms", "20");
    let mut open = shared.open(slow).await;
    open.next().await.expect("tokens flow");
    gw.running.leave();
    soon("the connection takes no further call", || async {
        shared.try_open(Call::get(gw.addr(), "/health/ping")).await.is_none()
    })
    .await;
    assert!(open.rest().await.is_done(), "what is open goes on");
    let another = plain(&gw).await;
    // A round trip beside it, so that whatever is said to a new connection at once has been said.
    Call::get(gw.addr(), "/health/ping").send().await;
    assert_eq!(another.send(Call::get(gw.addr(), "/health/ready")).await.status, 503);
    soon("it takes no second request", || async {
        another.try_open(Call::get(gw.addr(), "/health/ping")).await.is_none()
    })
    .await;
    let last = gw.ask(&key, &body("last", "")).await;
    assert_eq!((last.status, last.header("connection")), (200, "close"));
    gw.finish().await;
}
