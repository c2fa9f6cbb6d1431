//! The side of the running gateway.

use super::{
    Answer, Go, Hello, MESSAGE_TIMEOUT, Offer, PREPARE_TIMEOUT, PROTOCOL, READY_TIMEOUT, State,
    Step, descriptors,
};
use crate::data_dir::Lock;
use anyhow::{Context, bail};
use nix::unistd::geteuid;
use parking_lot::Mutex;
use quota::model::OpenState;
use quota::remote::{RemoteQuota, read_message, write_message};
use quota::transferable::TransferableQuota;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::Store;
use system::supervisor::Supervisor;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time between two tries after accepting failed.
const ACCEPT_INTERVAL: Duration = Duration::from_secs(1);
/// Time for locking the database again while calls wait, and time between two further attempts.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);

/// Listens for a successor. `has_taken_over`: the gateway that listens there now was replaced by this one.
///
/// # Errors
/// If the socket cannot be made, or another gateway listens there.
pub async fn listen(path: &Path, has_taken_over: bool) -> anyhow::Result<UnixListener> {
    if !has_taken_over && UnixStream::connect(path).await.is_ok() {
        bail!("another gateway listens on {}", path.display());
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Duplicates of the listening sockets, with the addresses as configured.
pub struct Sockets {
    pub public: (SocketAddr, OwnedFd),
    pub admin: Option<(SocketAddr, OwnedFd)>,
}

/// The service of this process, for its successor.
pub struct Service {
    pub sockets: Sockets,
    pub state_id: String,
    /// Fingerprint of the server's secret.
    pub secret: String,
    /// The lock on the data directory; taken out once the successor has it.
    pub lock: Arc<Mutex<Option<Lock>>>,
    /// A duplicate of the lock on the journal's folder.
    pub journal_lock: Option<OwnedFd>,
    /// `None` where the counters are in Redis.
    pub quota: Option<TransferableQuota>,
    pub store: Arc<dyn Store>,
    /// Tasks that exchange messages with the successor.
    pub tasks: TaskTracker,
    /// May end once the successor serves.
    pub workers: Supervisor,
    pub ended: Ended,
}

/// State of the handover to a successor.
#[derive(Clone, Default)]
pub struct Ended {
    /// Cancelled when the successor serves.
    pub handed_over: CancellationToken,
    successor: Arc<OnceLock<Arc<RemoteQuota>>>,
}

impl Ended {
    /// Resolves if the successor is gone while this process still needs it.
    pub async fn successor_lost(&self) {
        match self.successor.get() {
            Some(successor) => successor.lost.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Service {
    /// Waits for a successor until `stop`, and hands the service over to it.
    pub async fn run(self, listener: UnixListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_INTERVAL).await;
                continue;
            };
            let handed_over = match stop.run_until_cancelled(self.prepare(stream)).await {
                Some(Ok(stream)) => self.hand_over(stream, &stop).await,
                Some(Err(error)) => Err(error),
                None => return,
            };
            match handed_over {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "hot restart failed; this process continues to serve"
                    );
                }
            }
        }
    }

    /// Offers the service, and waits until the successor asks for it.
    async fn prepare(&self, mut stream: UnixStream) -> anyhow::Result<UnixStream> {
        let peer = stream.peer_cred()?.uid();
        if peer != geteuid().as_raw() {
            bail!("a process of another user (uid {peer}) asked for it");
        }
        let hello: Hello = next(&mut stream, MESSAGE_TIMEOUT).await?;
        if let Err(reason) = self.check(&hello) {
            let answer = Answer::Refusal { reason: reason.clone() };
            write_message(&mut stream, &answer).await?;
            bail!(reason);
        }
        self.offer(&mut stream).await?;
        tracing::info!(successor = hello.pid, "hot restart: another process prepares to take over");
        must_be(next(&mut stream, PREPARE_TIMEOUT).await?, Step::Take)?;
        Ok(stream)
    }

    async fn hand_over(
        &self,
        mut stream: UnixStream,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let Some(quota) = &self.quota else {
            self.conclude(&mut stream, None).await?;
            self.end();
            return Ok(());
        };
        let state = quota.release().await?;
        let open: HashSet<_> = state.requests().collect();
        if let Err(error) = self.conclude(&mut stream, Some(state)).await {
            // The end of the stream tells the successor that it must not serve.
            drop(stream);
            let mut is_claimed = self.claim_again().await;
            quota.resume();
            while !is_claimed {
                // The successor may still hold the lock: until it ends, new calls are refused.
                let pause = tokio::time::sleep(CLAIM_INTERVAL);
                if stop.run_until_cancelled(pause).await.is_none() {
                    break;
                }
                is_claimed = self.claim_again().await;
            }
            return Err(error);
        }
        let remote = RemoteQuota::connect(stream, open, &self.tasks);
        let _ = self.ended.successor.set(Arc::clone(&remote));
        quota.forward(remote);
        self.end();
        Ok(())
    }

    async fn claim_again(&self) -> bool {
        let claim = self.store.acquire_instance_lock();
        let claimed = tokio::time::timeout(CLAIM_TIMEOUT, claim).await;
        let error = match claimed {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no response in time".to_owned(),
        };
        tracing::error!(
            error,
            "cannot lock the database again after a failed hot restart, retrying"
        );
        false
    }

    fn check(&self, hello: &Hello) -> Result<(), String> {
        if hello.protocol != PROTOCOL {
            return Err(format!(
                "the processes use different versions of the hot restart protocol ({PROTOCOL} here, {} there); restart \
                 with SIGTERM instead",
                hello.protocol
            ));
        }
        if hello.state_id != self.state_id {
            return Err("database, journal folder or Redis differ between the processes; restart with SIGTERM \
                        instead"
                .to_owned());
        }
        Ok(())
    }

    async fn offer(&self, stream: &mut UnixStream) -> anyhow::Result<()> {
        let lock = self.duplicate_lock()?;
        let Sockets { public, admin } = &self.sockets;
        let offer = Offer {
            pid: std::process::id(),
            secret: self.secret.clone(),
            public: public.0,
            admin: admin.as_ref().map(|admin| admin.0),
            has_lock: lock.is_some(),
            has_journal_lock: self.journal_lock.is_some(),
        };
        write_message(stream, &Answer::Offer(offer)).await?;
        let admin = admin.as_ref().map(|admin| admin.1.as_fd());
        let locks = [lock.as_ref(), self.journal_lock.as_ref()].into_iter().flatten();
        let sockets = std::iter::once(public.1.as_fd()).chain(admin);
        let all: Vec<BorrowedFd<'_>> = sockets.chain(locks.map(AsFd::as_fd)).collect();
        Ok(descriptors::send(stream, &all).await?)
    }

    fn duplicate_lock(&self) -> std::io::Result<Option<OwnedFd>> {
        let lock = self.lock.lock();
        lock.as_ref().map(|lock| lock.as_fd().try_clone_to_owned()).transpose()
    }

    /// Sends the state, and permits the successor to serve. Nothing has happened when it fails.
    async fn conclude(
        &self,
        stream: &mut UnixStream,
        state: Option<OpenState>,
    ) -> anyhow::Result<()> {
        let ready = async {
            if state.is_some() {
                self.store.release_instance_lock().await.context("cannot unlock the database")?;
            }
            write_message(stream, &State(state)).await?;
            must_be(next(stream, READY_TIMEOUT).await?, Step::Ready)
        };
        let ready = tokio::time::timeout(READY_TIMEOUT, ready).await;
        ready.context("the new process did not respond in time")??;
        // It has read everything, so that this fits into the socket's buffer.
        Ok(write_message(stream, &Go).await?)
    }

    /// The successor serves from here on.
    fn end(&self) {
        self.workers.shut_down();
        drop(self.lock.lock().take());
        self.ended.handed_over.cancel();
    }
}

async fn next<T: serde::de::DeserializeOwned>(
    stream: &mut UnixStream,
    timeout: Duration,
) -> anyhow::Result<T> {
    let message = tokio::time::timeout(timeout, read_message(stream)).await;
    let message = message.context("the new process did not respond in time")??;
    message.context("the new process ended before it could serve")
}

fn must_be(step: Step, expected: Step) -> anyhow::Result<()> {
    if step == expected { Ok(()) } else { bail!("unexpected message {step:?}") }
}
