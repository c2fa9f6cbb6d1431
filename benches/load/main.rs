//! Load and latency of the gateway, beside nginx and no gateway at all. See `docs/benchmarks.md`.
//!
//! Run it with `benches/load/run`, which builds and installs what it needs. It sends to this
//! machine's loopback alone, for a bounded time.
#![expect(clippy::disallowed_methods, reason = "measuring is reading the clock, and no task waits")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts here are far below the limits of f64 and u32"
)]

mod compare;
mod drive;
mod procfs;
mod reply;
mod report;
mod servers;

use anyhow::Context;
use clap::Parser;
use compare::{Plan, Route};
use procfs::{Machine, resident_kib};
use report::{Median, Report, Start};
use servers::{Folder, Gateway, Server};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Compares the gateway with nginx and with no gateway at all, on this machine's loopback.
#[derive(Debug, Parser)]
struct Args {
    /// The gateway's program.
    #[arg(long)]
    binary: PathBuf,
    /// A short run that only shows that everything works.
    #[arg(long)]
    smoke: bool,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds that each measurement lasts, after its warm-up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Requests in flight at saturation.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Fixed rates to measure at, in requests a second.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 3000])]
    rates: Vec<u32>,
    /// Numbers of open streams to measure at.
    #[arg(long, value_delimiter = ',', default_values_t = [500])]
    streams: Vec<u32>,
    /// Also writes the figures here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Said by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn plan(&self) -> Plan {
        let mut plan = Plan {
            rounds: self.rounds.max(1),
            warm_up: Duration::from_secs(1),
            time: Duration::from_secs(self.seconds.max(1)),
            connections: self.connections,
            rates: self.rates.clone(),
            streams: self.streams.clone(),
            stream_time: Duration::from_secs(5),
            events: 10_000,
        };
        if self.smoke {
            plan.rounds = 1;
            plan.time = Duration::from_secs(1);
            (plan.connections, plan.rates, plan.streams) = (8, vec![100], vec![20]);
            (plan.stream_time, plan.events) = (Duration::from_secs(1), 1000);
        }
        plan
    }
}

fn main() -> ExitCode {
    match tell(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("load: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell(args: &Args) -> anyhow::Result<()> {
    let report = run(args)?;
    report.print();
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn run(args: &Args) -> anyhow::Result<Report> {
    let plan = args.plan();
    let folder = Folder::new()?;
    let simulator = servers::simulator(&args.binary)?;
    let nginx = servers::nginx(&folder.0, simulator.addr)?;
    let gateway = Gateway::prepare(&args.binary, &folder.0, simulator.addr)?;
    let starts: Vec<_> = (0..5).map(|_| started(&gateway.start()?)).collect::<Result<_, _>>()?;
    let knockx = gateway.start()?;
    let idle = [None, Some(resident_kib(nginx.pid())?), Some(resident_kib(knockx.pid())?)];
    let routes = Route::all(&simulator, &nginx, &knockx, &gateway);

    let mut report = Report {
        machine: Machine::here()?,
        command: command(),
        starts: Start::of(&starts).into_iter().chain([started(&nginx)?]).collect(),
        plan: plan.clone(),
        streams: Vec::new(),
        paced: Vec::new(),
        saturation: Vec::new(),
    };
    // Memory per stream is told best by a program that has served nothing else yet.
    for &open in &plan.streams {
        report.streams.extend(in_turns(plan.rounds, routes.len(), |at| {
            compare::stream(&routes[at], open, idle[at], &plan)
        })?);
    }
    for &rate in &plan.rates {
        let pace = |at: usize| compare::pace(&routes[at], rate, &plan);
        report.paced.extend(in_turns(plan.rounds, routes.len(), pace)?);
    }
    let saturate = |at: usize| compare::saturate(&routes[at], &plan);
    report.saturation = in_turns(plan.rounds, routes.len(), saturate)?;
    Ok(report)
}

/// What to type for the same again.
fn command() -> String {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    words.fold("benches/load/run".to_owned(), |all, word| all + " " + &word)
}

fn started(server: &Server) -> anyhow::Result<Start> {
    Ok(Start {
        name: server.name,
        ready_ms: server.ready_after.as_secs_f64() * 1000.0,
        idle_kib: resident_kib(server.pid())?,
    })
}

/// Measures every route once a round, another one first each round; gives each one's median.
fn in_turns<T: Median>(
    rounds: u32,
    routes: usize,
    mut measure: impl FnMut(usize) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let mut found: Vec<Vec<T>> = (0..routes).map(|_| Vec::new()).collect();
    for round in 0..rounds as usize {
        for turn in 0..routes {
            let at = (round + turn) % routes;
            found[at].push(measure(at)?);
        }
    }
    Ok(found.iter().filter_map(|rounds| T::of(rounds)).collect())
}
