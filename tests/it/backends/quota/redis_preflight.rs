//! What is found in a real Redis.

use crate::support::redis::{Redis, Watched, free_port};
use jiff::{SignedDuration, Timestamp};
use quota::redis::connection::preflight::{Severity, check_server};
use quota::redis::connection::{RedisConn, RedisUrls};

async fn found(url: &str, ahead: SignedDuration) -> Vec<(Severity, String)> {
    let connection = RedisConn::open(&RedisUrls::parse(url).unwrap()).await.unwrap();
    let findings = check_server(&connection, Timestamp::now() - ahead).await.unwrap();
    findings.into_iter().map(|finding| (finding.severity, finding.text)).collect()
}

/// What was found, each by its severity and words of it.
fn check(found: &[(Severity, String)], expected: &[(Severity, &str)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((severity, text), (expected, words)) in found.iter().zip(expected) {
        assert!(severity == expected && text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn check_reports_what_a_server_may_lose() {
    use Severity::{Ok, Refusal, Warning};
    let in_memory = Redis::start();
    let at_once = SignedDuration::ZERO;
    let expected = [(Ok, "Redis "), (Warning, "no append-only file")];
    check(&found(&in_memory.url(), at_once).await, &expected);
    let evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let every_second = Redis::start_with(&[&["--appendonly", "yes"], &evicting[..]].concat());
    let expected = [
        (Ok, "Redis "),
        (Refusal, "`allkeys-lru`"),
        (Warning, "s ahead of the clock of this machine"),
        (Warning, "everysec"),
    ];
    check(&found(&every_second.url(), SignedDuration::from_millis(10_000)).await, &expected);
    let always = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    check(&found(&always.url(), at_once).await, &[(Ok, "Redis ")]);
    always.command(&["acl", "setuser", "narrow", "on", ">hunter2", "+info", "+time"]);
    let narrow = always.url().replace("redis://", "redis://narrow:hunter2@");
    check(&found(&narrow, at_once).await, &[(Ok, "Redis ")]);
}

#[tokio::test]
async fn check_covers_sentinels_and_cluster_nodes() {
    use Severity::{Ok, Refusal, Warning};
    let watched = Watched::start("");
    let expected =
        [(Ok, "Redis "), (Warning, "no append-only file"), (Warning, "min-replicas-to-write")];
    check(&found(&watched.url(), SignedDuration::ZERO).await, &expected);
    let cluster = Redis::start_cluster();
    let twice = format!("{0},{0}", cluster.url());
    let expected = [(Ok, "Redis "), (Warning, "no append-only file")];
    check(&found(&twice, SignedDuration::ZERO).await, &expected);
    let alone = found(&cluster.url(), SignedDuration::ZERO).await;
    check(&alone, &[(Ok, "Redis "), (Warning, "append-only"), (Refusal, "set several nodes")]);
}

#[tokio::test]
async fn check_reports_an_unreachable_server() {
    let urls = RedisUrls::parse("redis://u:hunter2@127.0.0.1:9").unwrap();
    let connection = RedisConn::open(&urls).await.unwrap();
    let told = check_server(&connection, Timestamp::now()).await.unwrap_err();
    assert!(told.contains("cannot read the settings") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn a_server_with_an_untrusted_certificate_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("certificate.pem", own.cert.pem());
    let key = file("key.pem", own.signing_key.serialize_pem());
    let port = free_port().to_string();
    let tls = ["--tls-port", &port, "--tls-auth-clients", "no", "--tls-key-file", &key];
    let files = ["--tls-cert-file", &certificate, "--tls-ca-cert-file", &certificate];
    let _server = Redis::start_with(&[&tls[..], &files].concat());
    let urls = RedisUrls::parse(&format!("rediss://localhost:{port}")).unwrap();
    let connection = RedisConn::open(&urls).await.unwrap();
    let told = check_server(&connection, Timestamp::now()).await.unwrap_err();
    assert!(told.contains("certificate"), "{told}");
}
