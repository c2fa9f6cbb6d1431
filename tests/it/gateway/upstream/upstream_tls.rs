//! Upstreams over TLS: the certificate's issuer and name are checked, always.

use crate::support::{body, gateway};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server answers to anything: a whole chat completion.
const REPLY: &str = r#"{"id":"x","object":"chat.completion","created":1,"model":"grok-4.3","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_with_a_trusted_certificate_is_used() {
    let server = Server::start("localhost").await;
    assert_eq!(server.status_through_a_gateway("localhost", Some(&server.authority)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_issuer_is_refused() {
    let server = Server::start("localhost").await;
    assert_eq!(server.status_through_a_gateway("localhost", None).await, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_refused() {
    let server = Server::start("other.example").await;
    assert_eq!(server.status_through_a_gateway("localhost", Some(&server.authority)).await, 502);
}

/// A TLS server with a certificate of its own authority.
struct Server {
    addr: SocketAddr,
    authority: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, issuer.pem()).unwrap();

        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        Self { addr, authority, _folder: folder }
    }

    async fn status_through_a_gateway(&self, host: &str, authority: Option<&PathBuf>) -> u16 {
        let trusted = authority.map(|path| format!("ca_file = {path:?}\n")).unwrap_or_default();
        let upstream = format!(
            "[[upstreams]]\nname = \"secure\"\nbase_url = \"https://{host}:{}/v1\"\napi_key = \"x\"\n{trusted}",
            self.addr.port()
        );
        let gw = gateway().upstreams(&upstream).start().await;
        let key = gw.key("wide").await;
        let status = gw.ask(&key, &body("hi", "")).await.status;
        gw.finish().await;
        status
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = vec![0; 64 * 1024];
            let _ = stream.read(&mut request).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                REPLY.len()
            );
            let _ = stream.write_all(format!("{head}{REPLY}").as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}
