//! Configuration to running gateway: the only place that knows every part.
//!
//! [`start`] binds its sockets before it serves, so that its caller knows the
//! addresses; [`Running::stop`] ends it softly first: not ready, new calls refused, open calls
//! finished, charges written.

mod background;
mod control_plane;
mod quota_setup;
mod initial;
mod restart;
mod sockets;

use crate::callers::cache::CallerCache;
use crate::callers::open::OpenCalls;
use crate::config::report::SectionReport;
use crate::config::{Config, Limits, TlsFiles, waiting_for_restart};
use crate::control::admin_port::AdminState;
use crate::control::health::{Phase, Readiness};
use crate::control::routes::admin::reload::ReloadRequest;
use crate::data_dir::{DataDir, Instance, Lock};
use crate::gateway::call::body_memory::BodyMemory;
use crate::gateway::call::exhausted_users::ExhaustedUsers;
use crate::gateway::call::prompt_count::CountingTurns;
use crate::gateway::call::services::CallServices;
use crate::gateway::listener::address_limit::AddressLimit;
use crate::gateway::listener::tls::Tls;
use crate::gateway::{Gateway, RoutingSnapshot};
use crate::hot_restart::predecessor::Ended;
use crate::hot_restart::successor::Takeover;
use crate::links::{IssuedLink, Links};
use crate::response_owners::ResponseOwners;
use crate::upstream::Upstreams;
use crate::upstream::catalog::Catalog;
use anyhow::Context;
use arc_swap::ArcSwap;
use domain::actor::AuditContext;
use domain::charge::Lease;
use domain::key::Pepper;
use domain::server_secret::ServerSecret;
use parking_lot::Mutex as SyncMutex;
use quota::backend::QuotaBackend;
use quota::transferable::TransferableQuota;
use quota_setup::{QuotaDeps, QuotaSetup};
use sockets::{Sockets, Stops};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use store::audit::Change;
use store::{self, Store};
use system::clock;
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time between two checks whether the last call has ended.
const SHUTDOWN_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Time for cancelled calls to end, and for their charges to be written.
const SHUTDOWN_STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running gateway, as [`start`] returns it.
pub struct Running {
    pub public_addr: SocketAddr,
    pub admin_addr: Option<SocketAddr>,
    pub store: Arc<dyn Store>,
    pub quota: Arc<dyn QuotaBackend>,
    pub pepper: Pepper,
    pub metrics: Arc<Metrics>,
    links: Arc<Links>,
    upstreams: Arc<ArcSwap<Upstreams>>,
    /// Reload requests of admins; the caller of [`start`] knows where the configuration is.
    reloads: Mutex<mpsc::Receiver<ReloadRequest>>,
    /// Held while a configuration is applied, so that two reloads cannot mix.
    reloading: Mutex<()>,
    gateway: Arc<Gateway>,
    readiness: Readiness,
    /// The configuration at start; a reload does not change it.
    config: Config,
    /// The configuration in force, for admins to read.
    effective: Arc<EffectiveConfig>,
    /// Connections and the settling of calls.
    calls: TaskTracker,
    /// The journal's writer, which must outlive every call.
    workers: Supervisor,
    stop: CancellationToken,
    stop_writer: CancellationToken,
    /// Cancelled when another process has taken over.
    ended: Ended,
    /// Freed last. A store on a server holds its claim by itself.
    _lock: SharedLock,
}

/// The settings in force, replaced by a reload.
type EffectiveConfig = ArcSwap<Vec<SectionReport>>;

/// The lock on the data directory, which a successor takes over.
type SharedLock = Arc<SyncMutex<Option<Lock>>>;

/// The parts that calls are served with, once the store is open.
struct Services {
    store: Arc<dyn Store>,
    quota: Arc<dyn QuotaBackend>,
    callers: Arc<CallerCache>,
    metrics: Arc<Metrics>,
    upstreams: Arc<ArcSwap<Upstreams>>,
    pepper: Pepper,
    changed: Arc<Notify>,
    transferable: Option<TransferableQuota>,
    adopted: Vec<Lease>,
    journal_lock: Option<OwnedFd>,
}

/// Starts a gateway; see the module. With `takeover` it takes the place of a running one.
///
/// # Errors
/// One sentence on what could not be had: the folder, the store, an address.
pub async fn start(config: Config, mut takeover: Option<Takeover>) -> anyhow::Result<Running> {
    let folder = config.database.folder().map(DataDir::open).transpose()?;
    let lock = restart::lock(folder.as_ref(), takeover.as_mut())?;
    let pepper = pepper(&config, folder.as_ref())?;
    let secret = ServerSecret::of(&pepper).fingerprint().to_string();
    if let Some(takeover) = &takeover {
        takeover.check_secret(&secret)?;
    }
    let tls = config.listener.tls.as_ref().map(Tls::new).transpose()?;
    let sockets = Sockets::bind(&config, takeover.as_mut()).await?;
    let Sockets { public_addr, admin_addr, .. } = sockets;
    let duplicates = sockets.duplicate(&config)?;

    let (calls, workers) = (TaskTracker::new(), Supervisor::default());
    let (stop, stop_writer) = (CancellationToken::new(), CancellationToken::new());
    let tasks = (&workers, &calls);
    let mut parts = parts(&config, pepper, tasks, stop_writer.clone(), takeover.as_mut()).await?;
    let readiness = Readiness::new();
    let (reload_requests, reloads) = mpsc::channel(1);
    let links = Arc::new(Links::new(&parts.pepper, config.public_url.clone()));
    let mailer = background::spawn_mail(&config, &parts, &links, &workers, &stop)?;
    let mail = (Arc::clone(&links), mailer);
    let effective = Arc::new(EffectiveConfig::from_pointee(config.report()));
    let reload = (reload_requests, Arc::clone(&effective));
    let control = control_plane::control(&config, &parts, &readiness, reload, mail);
    let admin_names = config.admin_names.clone();
    let gateway = Arc::new(Gateway { tls, ..gateway(config.clone(), &parts, control, &calls) });

    let (ended, lock) = (Ended::default(), Arc::new(SyncMutex::new(lock)));
    let has_taken_over = takeover.is_some();
    if let Some(takeover) = takeover {
        restart::replace(takeover, &parts, &gateway, &calls).await?;
        restart::record_holder(folder.as_ref(), &lock);
    }
    match initial::apply(&config, &*parts.store).await {
        // The predecessor has ended its service already.
        Err(error) if has_taken_over => {
            tracing::error!(error = format!("{error:#}"), "the configured plans are not in effect");
        }
        applied => applied?,
    }
    let identity = restart::Identity { state_id: config.state_id(), secret };
    let service = restart::service(identity, duplicates, &mut parts, &ended, &lock, &workers);
    restart::spawn(&config, service, has_taken_over, &workers, &stop).await;
    background::spawn(&workers, &parts, &gateway, &stop);
    background::spawn_provider_check(&config, &workers, &stop);
    let admin_state = AdminState {
        metrics: Arc::clone(&parts.metrics),
        quota: Arc::clone(&parts.quota),
        readiness: readiness.clone(),
        names: admin_names,
    };
    let stops = Stops { calls: &stop, writer: &stop_writer, accepting: &ended.handed_over };
    sockets.serve(&workers, &gateway, admin_state, &stops);
    if let Some(folder) = &folder {
        let instance = Instance { pid: std::process::id(), public_addr, admin_addr };
        match folder.publish(&instance) {
            // The predecessor has ended its service already.
            Err(error) if has_taken_over => {
                tracing::error!(%error, "other commands cannot find this process");
            }
            announced => announced?,
        }
    }
    readiness.set(Phase::Ready);
    let Services { store, quota, pepper, metrics, upstreams, .. } = parts;
    Ok(Running {
        public_addr,
        admin_addr,
        store,
        quota,
        pepper,
        metrics,
        links,
        upstreams,
        reloads: Mutex::new(reloads),
        reloading: Mutex::default(),
        gateway,
        readiness,
        config,
        effective,
        calls,
        workers,
        stop,
        stop_writer,
        ended,
        _lock: lock,
    })
}

impl Running {
    /// Says that this gateway will end: it is not ready from here on, and closes connections after the
    /// answer under way. It still takes calls. Returns for how long it should, so that balancers learn of it.
    pub fn leave(&self) -> Duration {
        self.readiness.set(Phase::ShuttingDown);
        self.gateway.leaving.cancel();
        self.limits().shutdown_delay
    }

    /// Ends the gateway: open calls may finish for as long as the configuration grants.
    pub async fn stop(self) {
        self.workers.shut_down();
        self.leave();
        self.gateway.shutting_down.cancel();
        let grace = self.limits().shutdown_grace;
        let idle = async {
            while self.quota.open_leases() > 0 {
                tokio::time::sleep(SHUTDOWN_POLL_INTERVAL).await;
            }
        };
        if tokio::time::timeout(grace, idle).await.is_err() {
            tracing::warn!(
                open_calls = self.quota.open_leases(),
                "shutdown grace period expired, aborting calls in flight"
            );
        }
        self.gateway.hard_stop.cancel();
        self.stop.cancel();
        self.calls.close();
        let _ = tokio::time::timeout(SHUTDOWN_STEP_TIMEOUT, self.calls.wait()).await;
        self.end_workers().await;
    }

    /// Ends everything that outlives the calls.
    async fn end_workers(&self) {
        self.stop.cancel();
        self.stop_writer.cancel();
        if tokio::time::timeout(SHUTDOWN_STEP_TIMEOUT, self.workers.wait()).await.is_err() {
            tracing::error!(
                "the ledger could not be written in time; it gets the rest of the journal at the next start"
            );
        }
        if tokio::time::timeout(SHUTDOWN_STEP_TIMEOUT, self.store.close()).await.is_err() {
            tracing::warn!("timed out closing the store");
        }
    }

    fn limits(&self) -> Limits {
        self.gateway.current.load().limits.clone()
    }

    /// The address of the public listener as this machine reaches it.
    #[must_use]
    pub fn local_url(&self) -> String {
        let mut addr = self.public_addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let scheme = if self.config.listener.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{addr}")
    }

    /// A link that creates the first admin, in place of an earlier one; `None` if there is an admin.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn first_admin_link(&self) -> anyhow::Result<Option<IssuedLink>> {
        Ok(self.links.issue_setup(&*self.store, clock::now()).await?)
    }

    /// The upstreams that the next call will use.
    #[must_use]
    pub fn upstreams(&self) -> Arc<Upstreams> {
        self.upstreams.load_full()
    }

    /// Resolves when a background task has failed: the gateway should be stopped.
    pub async fn failed(&self) {
        self.workers.task_failed().await;
    }

    /// The next reload request of an admin; pending forever once the control plane has stopped.
    pub async fn next_reload_request(&self) -> ReloadRequest {
        match self.reloads.lock().await.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }

    /// Loads a renewed certificate for new connections.
    ///
    /// # Errors
    /// If it cannot be read or does not match its key; then the old one stays.
    pub fn reload_tls(&self, files: &TlsFiles) -> anyhow::Result<()> {
        self.gateway.tls.as_ref().map_or(Ok(()), |tls| tls.reload(files))
    }

    /// Applies the settings that can change while running, from the next call on; running calls keep
    /// those they started with. Returns the names of changed settings that need a restart.
    ///
    /// # Errors
    /// When the certificate cannot be read or the plans cannot be written; then nothing has changed. Or
    /// when the audit log cannot be.
    pub async fn reload(
        &self,
        config: Config,
        by: &AuditContext,
    ) -> anyhow::Result<Vec<&'static str>> {
        let _one_at_a_time = self.reloading.lock().await;
        let waiting = waiting_for_restart(&self.config, &config);
        if let Some(files) = &config.listener.tls {
            self.reload_tls(files)?;
        }
        initial::sync_plans(&*self.store, &config.plans, &config.catalog, by).await?;
        let effective = self.config.reloaded_from(&config).report();
        let Config { catalog, limits, .. } = config;
        let after = names(&catalog);
        let before = {
            let current = self.upstreams.load();
            let upstreams = Arc::new(current.replaced_by(catalog));
            self.upstreams.store(Arc::clone(&upstreams));
            self.gateway.current.store(Arc::new(RoutingSnapshot { upstreams, limits }));
            names(&current.catalog)
        };
        self.effective.store(Arc::new(effective));
        let change = Change::of_config(before, after);
        let noted = self.store.append_audit(&change, by).await;
        noted.context("configuration reloaded, but the audit entry could not be written")?;
        Ok(waiting)
    }
}

/// The part of a configuration that the audit log records; plans have entries of their own.
fn names(catalog: &Catalog) -> serde_json::Value {
    let upstreams: Vec<&str> = catalog.upstreams.iter().map(|upstream| &*upstream.name).collect();
    let models: Vec<&str> = catalog.models.iter().map(|model| &*model.id).collect();
    serde_json::json!({ "upstreams": upstreams, "models": models })
}

/// The secret that API keys are hashed with.
fn pepper(config: &Config, folder: Option<&DataDir>) -> anyhow::Result<Pepper> {
    let secret = match (&config.secret_key, folder) {
        (Some(secret), _) => secret.clone(),
        (None, Some(folder)) => folder.secret_key()?,
        (None, None) => anyhow::bail!("SECRET_KEY is required: the store has no data directory"),
    };
    Ok(Pepper::new(secret.expose().as_bytes()))
}

/// Opens the store and starts the quota backend.
async fn parts(
    config: &Config,
    pepper: Pepper,
    (workers, tasks): (&Supervisor, &TaskTracker),
    stop_writer: CancellationToken,
    takeover: Option<&mut Takeover>,
) -> anyhow::Result<Services> {
    let models: Vec<&str> = config.catalog.models.iter().map(|model| &*model.id).collect();
    let upstreams: Vec<&str> =
        config.catalog.upstreams.iter().map(|upstream| &*upstream.name).collect();
    let metrics = Arc::new(Metrics::new(&models, &upstreams));
    let store = store::open(&config.database).await.context("cannot open the database")?;
    let store = store.measured(Arc::clone(&metrics));
    store
        .create_partitions(background::yesterday(clock::now()))
        .await
        .context("cannot prepare the ledger")?;
    let deps = QuotaDeps {
        takeover,
        store,
        metrics: Arc::clone(&metrics),
        workers,
        tasks: tasks.clone(),
        stop: stop_writer,
    };
    let setup = quota_setup::start(config, deps).await?;
    let QuotaSetup { store, quota, changed, transferable, adopted, journal_lock } = setup;
    initial::adopt_secret(&*store, &pepper).await?;
    let callers = CallerCache::new(store.clone(), config.limits.cached_callers)
        .requiring_verified_email(config.accounts.require_verified_email);
    let callers = Arc::new(callers);
    let upstreams = Arc::new(ArcSwap::from_pointee(Upstreams::new(config.catalog.clone())));
    Ok(Services {
        store,
        quota,
        callers,
        metrics,
        upstreams,
        pepper,
        changed,
        transferable,
        adopted,
        journal_lock,
    })
}

fn gateway(
    config: Config,
    parts: &Services,
    control: axum::Router,
    calls: &TaskTracker,
) -> Gateway {
    let services = Arc::new(CallServices {
        quota: Arc::clone(&parts.quota),
        metrics: Arc::clone(&parts.metrics),
        tasks: calls.clone(),
        reasoning: Arc::default(),
        lengths: Arc::default(),
        admission_queue: Arc::default(),
    });
    let hard_stop = CancellationToken::new();
    Gateway {
        body_memory: BodyMemory::new(config.listener.buffered_bytes),
        address_limit: AddressLimit::new(config.listener.connections_per_address),
        exhausted_users: ExhaustedUsers::default(),
        listener: config.listener,
        tls: None,
        pepper: parts.pepper.clone(),
        callers: Arc::clone(&parts.callers),
        owners: ResponseOwners::new(Arc::clone(&parts.store)),
        open_calls: OpenCalls::default(),
        current: ArcSwap::from_pointee(RoutingSnapshot {
            upstreams: parts.upstreams.load_full(),
            limits: config.limits,
        }),
        services,
        control,
        leaving: CancellationToken::new(),
        shutting_down: CancellationToken::new(),
        counting: CountingTurns::until(hard_stop.clone()),
        hard_stop,
        calls: AtomicU64::new(0),
    }
}
