//! `knockx simulate`: the Grok simulator alone.

use anyhow::Context;
use mock_xai::Simulator;
use mock_xai::fault::{Faults, NAMES};
use mock_xai::settings::Settings;
use mock_xai::surfaces::Surfaces;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Run a simulated xAI API without a model, for demos, tests and load tests.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "Example: knockx simulate --listen 127.0.0.1:9999 --tokens-per-second 80 --fault stall=5\n\n\
     Faults, comma-separated: {NAMES}\n\n\
     A single request is controlled by headers (x-sim-tokens, x-sim-reasoning, x-sim-first-token-ms, x-sim-token-ms, \
     x-sim-cache-writes, x-sim-fault, x-sim-call, x-sim-lenient)\nor by its last user message: \
     [sim tokens=500 token-ms=5 fault=cut=20].\n\
     GET /sim/log?last=N and /sim/stats return what was sent; POST /sim/fault sets the faults for all requests."
))]
pub struct Args {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9999", value_parser = super::socket_address)]
    listen: SocketAddr,
    /// File for a log of all responses, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Seed of the random words.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Delay before the first token of a response, in milliseconds.
    #[arg(long, value_name = "N", default_value_t = 0)]
    first_token_ms: u64,
    /// Output rate of a response; without it, as fast as the client reads.
    #[arg(long, value_name = "N")]
    tokens_per_second: Option<NonZeroU32>,
    /// Output tokens of a response.
    #[arg(long, value_name = "N", default_value_t = 24)]
    tokens: u64,
    /// Tokens billed in addition to the visible prompt, like those of a hidden system prompt.
    #[arg(long, value_name = "N", default_value_t = 0)]
    prompt_overhead: u64,
    /// Faults for every request that sets none itself.
    #[arg(long, value_name = "NAME[=ARG],…", default_value = "none")]
    fault: Faults,
    /// The only accepted API key; without it, any key is accepted.
    #[arg(long)]
    key: Option<String>,
    /// Additional model name; may be repeated.
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Supported endpoints: chat, responses, completions, messages, embeddings, images; the others return 404.
    /// Default: all.
    #[arg(long, value_name = "NAME,…")]
    surfaces: Option<Surfaces>,
    /// Maximum bytes of events combined into one write; 0 writes each event separately.
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024)]
    coalesce: usize,
}

impl From<Args> for Settings {
    fn from(args: Args) -> Self {
        let gap = args.tokens_per_second.map(|rate| Duration::from_secs(1) / rate.get());
        Self {
            listen: args.listen,
            seed: args.seed,
            first_token: Duration::from_millis(args.first_token_ms),
            token_gap: gap.unwrap_or_default(),
            tokens: args.tokens,
            reasoning: None,
            prompt_overhead: args.prompt_overhead,
            faults: args.fault,
            key: args.key,
            log: args.log,
            coalesce: args.coalesce,
            more_models: args.model,
            surfaces: args.surfaces.unwrap_or_default(),
        }
    }
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// The address is taken or the log file cannot be opened.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let settings = Settings::from(args);
    let listen = settings.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; --listen takes another address"))?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let running = Simulator::start(settings, listener, &tasks, stop.clone())
        .context("cannot start the simulator")?;
    println!("simulator ready on {}", running.url());
    told_to_stop().await?;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(ExitCode::SUCCESS)
}

async fn told_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}
