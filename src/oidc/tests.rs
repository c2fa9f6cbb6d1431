//! How the provider is reached: its certificate, the sizes of its replies, and redirects.

use super::*;
use domain::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

fn provider(issuer: String, ca_file: Option<String>) -> Provider {
    Provider::new(Oidc {
        issuer,
        client_id: "kx".to_owned(),
        client_secret: Secret::new("secret"),
        name: "Acme ID".to_owned(),
        scopes: vec!["openid".to_owned()],
        create_accounts: None,
        allowed_email_domains: Vec::new(),
        ca_file,
        redirect_uri: "https://kx.example/console/oidc/callback".to_owned(),
    })
}

/// A server that gives each request the next of these replies. Returns its port.
async fn serve(replies: Vec<String>, acceptor: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TaskTracker::new().spawn(async move {
        for reply in replies {
            let (stream, _) = listener.accept().await.unwrap();
            match &acceptor {
                None => respond(stream, &reply.replace("PORT", &port.to_string())).await,
                Some(acceptor) => {
                    let Ok(stream) = acceptor.accept(stream).await else { continue };
                    respond(stream, &reply.replace("PORT", &port.to_string())).await;
                }
            }
        }
    });
    port
}

async fn respond(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: &str) {
    let mut request = vec![0; 8192];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// The metadata of an issuer at this host; ports have five digits.
fn metadata(base: &str) -> String {
    let text = format!(
        "{{\"issuer\":\"{base}:PORT\",\"authorization_endpoint\":\"{base}:PORT/a\",\
         \"token_endpoint\":\"{base}:PORT/t\",\"jwks_uri\":\"{base}:PORT/k\"}}"
    );
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{text}")
}

fn key_set() -> String {
    ok("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"sXch\",\"e\":\"AQAB\"}]}")
}

#[tokio::test]
async fn a_certificate_must_be_of_a_trusted_authority_and_of_the_host() {
    for (name, is_trusted, is_reached) in
        [("localhost", true, true), ("localhost", false, false), ("other.example", true, false)]
    {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, issuer.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let replies = vec![metadata("https://localhost"), key_set()];
        let port = serve(replies, Some(TlsAcceptor::from(Arc::new(config)))).await;
        let trusted = is_trusted.then(|| authority.display().to_string());
        let checked = provider(format!("https://localhost:{port}"), trusted).check().await;
        assert_eq!(checked.is_ok(), is_reached, "{name} {is_trusted}: {checked:?}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_elsewhere_is_not_read() {
    let base = "http://127.0.0.1";
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: {base}:PORT/x\r\ncontent-length: 0\r\n\r\n");
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(600 * 1024));
    for (replies, is_usable) in [
        (vec![metadata(base), key_set()], true),
        (vec![redirect, metadata(base)], false),
        (vec![metadata(base), ok(&large)], false),
        (vec![metadata(base), ok("{\"keys\":[]}")], false),
        (vec![metadata(base), ok("<html>")], false),
        (vec![metadata("https://elsewhere.example")], false),
        (vec!["HTTP/1.1 500 Internal Server Error\r\n\r\n".to_owned()], false),
        (vec!["no HTTP".to_owned()], false),
        (vec![], false),
    ] {
        let port = serve(replies, None).await;
        let checked = provider(format!("{base}:{port}"), None).check().await;
        assert_eq!(checked.is_ok(), is_usable, "{checked:?}");
    }
}
