//! `knockx demo`: the gateway with nothing to set up, and the simulator as its upstream.

mod accounts;
mod browser;
mod sample_usage;
mod welcome;

use crate::app::{self, Running};
use crate::cli::serve::{SignalEvent, Signals};
use crate::config;
use crate::logging;
use accounts::Accounts;
use anyhow::Context;
use domain::key::PlainKey;
use mock_xai::Simulator;
use mock_xai::settings::Settings;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The demo's settings; the simulator's address and the data directory are added to them.
const SETTINGS: &str = include_str!("../../../config/demo.toml");

/// Run a gateway without any setup: embedded stores, a simulated Grok, a user, an admin and made-up usage.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example: knockx demo\n         knockx demo --json --listen 127.0.0.1:0")]
pub struct Args {
    /// Address of the public port; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000", value_parser = super::socket_address)]
    listen: Option<SocketAddr>,
    /// Data directory; defaults to a temporary folder that is deleted at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one line of JSON when ready, for scripts.
    #[arg(long)]
    json: bool,
    /// Open the console in the default browser when ready.
    #[arg(long)]
    open: bool,
}

/// Addresses and credentials of the demo, for scripts.
#[derive(Serialize)]
struct Ready {
    console_url: String,
    base_url: String,
    caller_email: &'static str,
    caller_password: String,
    api_key: String,
    admin_api_key: String,
    admin_email: &'static str,
    admin_password: String,
    metrics_url: String,
    simulator_url: String,
    pid: u32,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let folder = Folder::of(args.data_dir)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let simulator = simulator(&tasks, stop.clone()).await?;
    let listen = args.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8000)));
    let settings = settings(listen, folder.path(), &simulator.url());
    let mut config =
        config::load_from(Some(("demo.toml", &settings)), &config::logging_variables())?;
    // Written as 0 it would mean "none"; the demo wants any free port.
    config.admin_addr = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    logging::init(&config.log)?;
    let accounts = accounts::prepare(&config).await?;
    let running = app::start(config, None).await?;
    let ready = Ready::new(&running, accounts, simulator.url());
    if args.json {
        println!("{}", serde_json::to_string(&ready)?);
    } else {
        print!("{}", welcome::text(&ready));
    }
    if args.open {
        browser::open(&ready.console_url);
    }
    loop {
        tokio::select! {
            event = signals.next() => if matches!(event, SignalEvent::Stop) { break },
            request = running.next_reload_request() => {
                let _ = request.reply.send(Err("The demo has no configuration file to reload.".to_owned()));
            }
            // The simulator ends with this process.
            () = running.handed_over() => break,
        }
    }
    running.stop().await;
    stop.cancel();
    Ok(ExitCode::SUCCESS)
}

async fn simulator(
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<mock_xai::RunningSimulator> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("cannot open a port for the simulator")?;
    Simulator::start(Settings::default(), listener, tasks, stop)
        .context("cannot start the simulator")
}

/// The demo's configuration, as a file would hold it.
fn settings(listen: SocketAddr, folder: &Path, simulator: &str) -> String {
    let database = format!("sqlite:{}", folder.join("knockx.db").display());
    let text = SETTINGS.replace("http://simulator.invalid/v1", &format!("{simulator}/v1"));
    let mut head = String::new();
    let _ = writeln!(head, "host = {:?}\nport = {}", listen.ip().to_string(), listen.port());
    format!("{head}{text}\n[database]\nurl = {database:?}\n")
}

impl Ready {
    fn new(running: &Running, accounts: Accounts, simulator_url: String) -> Self {
        let base = format!("http://{}", running.public_addr);
        let Accounts { caller, admin } = accounts;
        Self {
            console_url: format!("{base}/console/"),
            base_url: format!("{base}/v1"),
            caller_email: accounts::CALLER,
            caller_password: caller.password,
            api_key: caller.key,
            admin_api_key: admin.key,
            admin_email: accounts::ADMIN,
            admin_password: admin.password,
            metrics_url: running
                .admin_addr
                .map(|addr| format!("http://{addr}/metrics"))
                .unwrap_or_default(),
            simulator_url,
            pid: std::process::id(),
        }
    }
}

/// The data directory: the caller's, or a temporary one that goes when the demo ends.
enum Folder {
    Kept(PathBuf),
    Temporary(PathBuf),
}

impl Folder {
    fn of(kept: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(path) = kept {
            return Ok(Self::Kept(path));
        }
        let name = format!("knockx-demo-{}", PlainKey::generate()?.id());
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self::Temporary(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Temporary(path) => path,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Self::Temporary(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
