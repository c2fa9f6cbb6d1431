//! Hot restart, from both sides: taking the place of a running gateway, and giving ours to the next.

use super::quota_setup::report_abandoned;
use super::sockets::Sockets;
use super::{Running, SHUTDOWN_POLL_INTERVAL, SHUTDOWN_STEP_TIMEOUT, Services, SharedLock};
use crate::config::Config;
use crate::control::health::Phase;
use crate::data_dir::{DataDir, DataDirError, Lock};
use crate::gateway::Gateway;
use crate::hot_restart::predecessor::{self, Ended, Service};
use crate::hot_restart::successor::Takeover;
use quota::remote;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use system::private_files;
use system::supervisor::Supervisor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The lock on the data directory: our own, or that of the process to take over from.
pub(super) fn lock(
    folder: Option<&DataDir>,
    takeover: Option<&mut Takeover>,
) -> Result<Option<Lock>, DataDirError> {
    match takeover.and_then(Takeover::lock) {
        Some(lock) => Ok(Some(lock.into())),
        None => folder.map(DataDir::lock).transpose(),
    }
}

/// Names this process as the holder of the lock that it has taken over. It serves already, so a failure ends
/// nothing.
pub(super) fn record_holder(folder: Option<&DataDir>, lock: &SharedLock) {
    let mut lock = lock.lock();
    if let (Some(folder), Some(lock)) = (folder, &mut *lock)
        && let Err(error) = folder.take_over(lock)
    {
        tracing::error!(%error, "other commands cannot find this process");
    }
}

/// Replaces the running gateway. Its open calls continue there and are counted here.
pub(super) async fn replace(
    takeover: Takeover,
    parts: &Services,
    gateway: &Gateway,
    calls: &TaskTracker,
) -> anyhow::Result<()> {
    let pid = takeover.pid();
    let stream = takeover.commit().await?;
    tracing::info!(predecessor = pid, open_calls = parts.adopted.len(), "hot restart: took over");
    if parts.transferable.is_some() {
        let (quota, leases) = (Arc::clone(&parts.quota), parts.adopted.clone());
        let (stop, tasks) = (gateway.hard_stop.clone(), calls.clone());
        calls.spawn(async move {
            report_abandoned(remote::serve(quota, leases, stream, &tasks, stop).await);
        });
    }
    Ok(())
}

/// Identity that a successor must share with this process.
pub(super) struct Identity {
    pub(super) state_id: String,
    /// Fingerprint of the server's secret.
    pub(super) secret: String,
}

/// The service that this process hands over to a successor.
pub(super) fn service(
    identity: Identity,
    sockets: predecessor::Sockets,
    parts: &mut Services,
    ended: &Ended,
    lock: &SharedLock,
    workers: &Supervisor,
) -> Service {
    Service {
        sockets,
        state_id: identity.state_id,
        secret: identity.secret,
        lock: Arc::clone(lock),
        journal_lock: parts.journal_lock.take(),
        quota: parts.transferable.clone(),
        store: Arc::clone(&parts.store),
        tasks: TaskTracker::new(),
        workers: workers.clone(),
        ended: ended.clone(),
    }
}

/// Listens for a successor, in place of a process that was replaced if this one `has_taken_over`. The gateway
/// serves without that where the socket cannot be made.
pub(super) async fn spawn(
    config: &Config,
    service: Service,
    has_taken_over: bool,
    workers: &Supervisor,
    stop: &CancellationToken,
) {
    let path = config.hot_restart_socket();
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let listener = match private_files::create_folder(folder) {
        Ok(()) => predecessor::listen(&path, has_taken_over).await,
        Err(error) => Err(error.into()),
    };
    match listener {
        Ok(listener) => workers.spawn("hot restart", service.run(listener, stop.clone())),
        Err(error) => {
            let (path, error) = (path.display(), format!("{error:#}"));
            tracing::warn!(%path, error, "hot restart is not possible: cannot listen for another process");
        }
    }
}

impl Sockets {
    /// Duplicates the listening sockets for a successor.
    pub(super) fn duplicate(&self, config: &Config) -> anyhow::Result<predecessor::Sockets> {
        let public = (config.listener.addr, self.public.as_fd().try_clone_to_owned()?);
        let admin = match (&self.admin, config.admin_addr) {
            (Some(socket), Some(addr)) => Some((addr, socket.as_fd().try_clone_to_owned()?)),
            _ => None,
        };
        Ok(predecessor::Sockets { public, admin })
    }
}

impl Running {
    /// Resolves when a successor serves in place of this process, which should [retire](Self::retire).
    pub async fn handed_over(&self) {
        self.ended.handed_over.cancelled().await;
    }

    /// Finishes the calls of this process, however long they take; a successor accepts new connections. Idle
    /// connections are closed after `shutdown_grace`, so that no client meets a closed one by chance. Returns
    /// false if the successor is gone, which ends all calls.
    pub async fn retire(&self) -> bool {
        self.readiness.set(Phase::ShuttingDown);
        self.gateway.leaving.cancel();
        // What would reload them has its configuration in the new process.
        self.reloads.lock().await.close();
        self.calls.close();
        let calls_ended = async {
            let grace = tokio::time::sleep(self.limits().shutdown_grace);
            tokio::select! {
                () = self.calls.wait() => return,
                () = grace => {}
            }
            while self.quota.open_leases() > 0 {
                tokio::time::sleep(SHUTDOWN_POLL_INTERVAL).await;
            }
            self.gateway.shutting_down.cancel();
            self.calls.wait().await;
        };
        let has_finished = tokio::select! {
            () = calls_ended => true,
            () = self.ended.successor_lost() => false,
        };
        if !has_finished {
            tracing::error!("hot restart: the new process is gone; ending open calls");
            self.gateway.hard_stop.cancel();
            let _ = tokio::time::timeout(SHUTDOWN_STEP_TIMEOUT, self.calls.wait()).await;
        }
        self.end_workers().await;
        has_finished
    }
}
