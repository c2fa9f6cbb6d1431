//! `knockx serve`: the gateway, until it is stopped by a signal.

use crate::app;
use crate::cli::config_arg::ConfigArg;
use crate::config::Config;
use crate::config::display::Section;
use crate::hot_restart::successor::Takeover;
use crate::logging::{self, FilterHandle};
use anyhow::Context;
use domain::actor::AuditContext;
use std::pin::pin;
use std::process::ExitCode;
use system::clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Run the gateway (the default command).
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example: GROK_API_KEY=xai-... knockx serve --config knockx.toml\n\n\
    SIGTERM or Ctrl-C drains and stops the gateway; a second one skips the shutdown delay. SIGHUP reloads upstreams, models, plans, limits, the certificate and the log filter.")]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Take over from the gateway that runs on the same data directory, without refusing a connection or cutting a
    /// stream. The running process finishes its calls and exits.
    #[arg(long)]
    pub hot_restart: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    config.require_upstream()?;
    let filter = logging::init(&config.log)?;
    for Section { name, values } in config.sections() {
        tracing::info!(section = name, "effective configuration: {values}");
    }
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let mut signals = Signals::listen()?;
    let takeover = if args.hot_restart { find_running(&config).await? } else { None };
    let Some(running) = start(config, takeover, &mut signals).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let admin = running.admin_addr.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
    tracing::info!(public = %running.public_addr, admin, "ready");
    offer_setup(&running).await;
    let code = loop {
        tokio::select! {
            event = signals.next() => match event {
                SignalEvent::Stop => break ExitCode::SUCCESS,
                SignalEvent::Reload => {
                    let by = AuditContext::operator(clock::now());
                    let _ = reload(&args, &running, &filter, &by).await;
                }
            },
            request = running.next_reload_request() => {
                let reloaded = reload(&args, &running, &filter, &request.by).await;
                let _ = request.reply.send(reloaded);
            }
            () = running.handed_over() => {
                return Ok(retire(running, &mut signals).await);
            }
            () = running.failed() => break ExitCode::FAILURE,
        }
    };
    if code == ExitCode::SUCCESS {
        leave(&running, &mut signals).await;
    }
    tracing::info!("draining: refusing new requests, waiting for requests in flight");
    running.stop().await;
    tracing::info!("stopped");
    Ok(code)
}

/// Starts the gateway; `None` if a signal ended that before it served.
async fn start(
    config: Config,
    takeover: Option<Takeover>,
    signals: &mut Signals,
) -> anyhow::Result<Option<app::Running>> {
    let committed = takeover.as_ref().map(|takeover| takeover.committed.clone());
    let mut starting = pin!(app::start(config, takeover));
    tokio::select! {
        running = &mut starting => return running.map(Some),
        () = signals.end() => {}
    }
    if !committed.is_some_and(|committed| committed.is_cancelled()) {
        tracing::info!("interrupted while starting");
        return Ok(None);
    }
    // The process before this one has ended its service: this one ends its own in order.
    let running = starting.await?;
    running.stop().await;
    Ok(None)
}

/// Logs a link that creates the first admin, if there is none. Each start makes a new one and ends the others, so
/// of several gateways on one database the last one to start has the link that works.
async fn offer_setup(running: &app::Running) {
    match running.first_admin_link().await {
        Ok(Some(link)) => {
            let local = || format!("{}{}", running.local_url(), link.path);
            let url = link.url.clone().unwrap_or_else(local);
            tracing::warn!("no admin exists yet; open this link to create the first one: {url}");
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "no link for the first admin could be made"
            );
        }
    }
}

/// The gateway to take over from. Without one, this process starts as usual.
async fn find_running(config: &Config) -> anyhow::Result<Option<Takeover>> {
    let path = config.hot_restart_socket();
    let found = Takeover::connect(&path, config.state_id()).await.context("hot restart failed")?;
    if found.is_none() {
        tracing::info!(path = %path.display(), "hot restart: no gateway is running here; starting without one");
    }
    Ok(found)
}

/// Finishes open calls after another process has taken over. A signal ends them after `shutdown_grace`.
async fn retire(running: app::Running, signals: &mut Signals) -> ExitCode {
    tracing::info!("hot restart: another process serves; finishing open calls");
    let has_finished = tokio::select! {
        has_finished = running.retire() => Some(has_finished),
        () = signals.end() => None,
    };
    match has_finished {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            running.stop().await;
            ExitCode::SUCCESS
        }
    }
}

/// Keeps accepting requests for `shutdown_delay`, until load balancers notice; a second signal cuts it short.
async fn leave(running: &app::Running, signals: &mut Signals) {
    let delay = running.leave();
    tracing::info!(
        seconds = delay.as_secs_f64(),
        "shutting down: not ready, still accepting requests"
    );
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = signals.end() => {}
        () = running.failed() => {}
    }
}

/// Request that a signal stands for.
pub enum SignalEvent {
    Stop,
    Reload,
}

/// The signals the gateway listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Installs the handlers; from here on the signals no longer end the process.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn listen() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("cannot install signal handlers");
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hang_up: take(SignalKind::hangup())?,
        })
    }

    /// Resolves on the next SIGTERM or Ctrl-C.
    pub async fn end(&mut self) {
        while !matches!(self.next().await, SignalEvent::Stop) {}
    }

    /// The next signal.
    pub async fn next(&mut self) -> SignalEvent {
        tokio::select! {
            _ = self.terminate.recv() => SignalEvent::Stop,
            _ = self.interrupt.recv() => SignalEvent::Stop,
            _ = self.hang_up.recv() => SignalEvent::Reload,
        }
    }
}

/// Reloads the configuration; an invalid one changes nothing.
async fn reload(
    args: &Args,
    running: &app::Running,
    filter: &FilterHandle,
    by: &AuditContext,
) -> Result<Vec<&'static str>, String> {
    let loaded = args.config.load().map_err(anyhow::Error::from);
    let usable =
        loaded.and_then(|config| config.require_upstream().map(|()| config).map_err(Into::into));
    let applied = match usable {
        Ok(config) => apply(config, running, filter, by).await,
        Err(e) => Err(e),
    };
    match applied {
        Ok(waiting) if waiting.is_empty() => {
            tracing::info!("configuration reloaded");
            Ok(waiting)
        }
        Ok(waiting) => {
            let names = waiting.join("; ");
            tracing::warn!(
                waiting_for_restart = names,
                "configuration reloaded; some changes need a restart"
            );
            Ok(waiting)
        }
        Err(e) => {
            let error = format!("{e:#}");
            tracing::error!(error, "failed to reload the configuration, keeping the previous one");
            Err(error)
        }
    }
}

async fn apply(
    config: Config,
    running: &app::Running,
    filter: &FilterHandle,
    by: &AuditContext,
) -> anyhow::Result<Vec<&'static str>> {
    let log = config.log.filter.clone();
    let waiting = running.reload(config, by).await?;
    // Last, because it cannot fail: the filter was read when the configuration was.
    filter.set(&log)?;
    Ok(waiting)
}
