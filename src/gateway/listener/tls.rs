//! TLS of the public port. Its files are read at start and at every reload, so that a renewed certificate
//! needs no restart; connections that are open keep the one they began with.

use crate::config::TlsFiles;
use anyhow::Context;
use arc_swap::ArcSwap;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::tls::{
    ServerConfig, install_default_crypto_provider, load_certs_and_key_files, version,
};
use std::sync::Arc;

/// The TLS acceptor of new connections.
pub struct Tls(ArcSwap<Acceptor>);

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// A file cannot be read, has no PEM block of its kind, or certificate and key do not match.
    pub fn new(files: &TlsFiles) -> anyhow::Result<Self> {
        Ok(Self(ArcSwap::from_pointee(acceptor(files)?)))
    }

    /// Reads them again, for connections to come.
    ///
    /// # Errors
    /// As [`Tls::new`]; then the old ones stay.
    pub fn reload(&self, files: &TlsFiles) -> anyhow::Result<()> {
        self.0.store(Arc::new(acceptor(files)?));
        Ok(())
    }

    /// The acceptor for the next connection.
    #[must_use]
    pub fn acceptor(&self) -> Arc<Acceptor> {
        self.0.load_full()
    }
}

/// TLS 1.2 and 1.3; HTTP/2 for those who offer it.
fn acceptor(files: &TlsFiles) -> anyhow::Result<Acceptor> {
    let TlsFiles { certificate, key } = files;
    install_default_crypto_provider();
    let loaded = load_certs_and_key_files(certificate, key);
    let loaded = loaded.with_context(|| format!("cannot read {certificate} and {key}"))?;
    let (chain, secret) = loaded.with_context(|| {
        format!("{certificate} contains no PEM certificate, or {key} contains no PEM key")
    })?;
    let config = ServerConfig::builder_with_protocol_versions(&[&version::TLS12, &version::TLS13])
        .with_no_client_auth()
        .with_single_cert(chain, secret);
    let mut config = config.with_context(|| {
        format!("the certificate in {certificate} and the key in {key} do not match")
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Acceptor::from_server_config(Arc::new(config)))
}
