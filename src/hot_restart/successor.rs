//! The side of the new process.

use super::{
    Answer, Go, Hello, MESSAGE_TIMEOUT, Offer, PROTOCOL, READY_TIMEOUT, State, Step, descriptors,
};
use anyhow::{Context, bail};
use quota::model::OpenState;
use quota::remote::{read_message, write_message};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpListener, UnixStream};
use tokio_util::sync::CancellationToken;

const ENDED: &str = "the running gateway ended the hot restart; its log says why";

/// A running gateway that has offered its service. Dropping it leaves the service where it is.
pub struct Takeover {
    stream: UnixStream,
    offer: Offer,
    public: Option<OwnedFd>,
    admin: Option<OwnedFd>,
    lock: Option<OwnedFd>,
    journal_lock: Option<OwnedFd>,
    has_state: bool,
    /// Cancelled when the running gateway may have ended its service: this process must serve from then on.
    pub committed: CancellationToken,
}

impl Takeover {
    /// Asks the gateway that listens at `path` for its service; `None` if there is none. `state_id` is
    /// [`crate::config::Config::state_id`].
    ///
    /// # Errors
    /// If the gateway refuses, or does not answer.
    pub async fn connect(path: &Path, state_id: String) -> anyhow::Result<Option<Self>> {
        let mut stream = match UnixStream::connect(path).await {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            stream => stream.with_context(|| format!("cannot connect to {}", path.display()))?,
        };
        let hello = Hello { protocol: PROTOCOL, pid: std::process::id(), state_id };
        write_message(&mut stream, &hello).await.context(ENDED)?;
        let offer = match receive(&mut stream, MESSAGE_TIMEOUT).await? {
            Answer::Offer(offer) => offer,
            Answer::Refusal { reason } => bail!("the running gateway refused: {reason}"),
        };
        let mut received = descriptors::receive(&stream).await.context(ENDED)?.into_iter();
        let public = received.next();
        let admin = offer.admin.and_then(|_| received.next());
        let lock = if offer.has_lock { received.next() } else { None };
        let journal_lock = if offer.has_journal_lock { received.next() } else { None };
        Ok(Some(Self {
            stream,
            offer,
            public,
            admin,
            lock,
            journal_lock,
            has_state: false,
            committed: CancellationToken::new(),
        }))
    }

    /// Process id of the running gateway.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.offer.pid
    }

    /// Refuses to take over with another secret than the running gateway's, with which no key would be valid.
    ///
    /// # Errors
    /// If the fingerprints differ.
    pub fn check_secret(&self, fingerprint: &str) -> anyhow::Result<()> {
        if self.offer.secret == fingerprint {
            return Ok(());
        }
        bail!("SECRET_KEY differs from that of the running gateway; use the same one")
    }

    /// The running gateway's public socket, if it was configured for the same address.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn public(&mut self, addr: SocketAddr) -> anyhow::Result<Option<TcpListener>> {
        self.public.take().filter(|_| self.offer.public == addr).map(listener).transpose()
    }

    /// The same of its admin socket.
    ///
    /// # Errors
    /// As [`public`](Self::public).
    pub fn admin(&mut self, addr: SocketAddr) -> anyhow::Result<Option<TcpListener>> {
        self.admin.take().filter(|_| self.offer.admin == Some(addr)).map(listener).transpose()
    }

    /// The lock on the data directory, which both processes hold until the predecessor gives it up.
    pub fn lock(&mut self) -> Option<OwnedFd> {
        self.lock.take()
    }

    /// The same on the journal's folder.
    pub fn journal_lock(&mut self) -> Option<OwnedFd> {
        self.journal_lock.take()
    }

    /// Stops the counters of the running gateway, and returns what the ledger does not have; `None` where the
    /// counters are in Redis. Its calls wait until [`commit`](Self::commit), or until this is dropped.
    ///
    /// # Errors
    /// If the gateway cannot stop them.
    pub async fn take(&mut self) -> anyhow::Result<Option<OpenState>> {
        self.has_state = true;
        write_message(&mut self.stream, &Step::Take).await?;
        let State(state) = receive(&mut self.stream, READY_TIMEOUT).await?;
        Ok(state)
    }

    /// Ends the service of the running gateway: this process may serve when it returns. The stream is for
    /// [`quota::remote::serve`].
    ///
    /// # Errors
    /// If the running gateway does not agree; then it goes on, and this process must not serve.
    pub async fn commit(mut self) -> anyhow::Result<UnixStream> {
        if !self.has_state {
            self.take().await?;
        }
        self.committed.cancel();
        write_message(&mut self.stream, &Step::Ready).await?;
        let Go = receive(&mut self.stream, MESSAGE_TIMEOUT).await?;
        Ok(self.stream)
    }
}

/// The next message of the predecessor.
async fn receive<T: serde::de::DeserializeOwned>(
    stream: &mut UnixStream,
    timeout: Duration,
) -> anyhow::Result<T> {
    let message = tokio::time::timeout(timeout, read_message(stream)).await;
    let message = message.context("the running gateway does not respond")?.context(ENDED)?;
    message.context(ENDED)
}

fn listener(descriptor: OwnedFd) -> anyhow::Result<TcpListener> {
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}
