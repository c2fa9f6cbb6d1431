//! Load and latency of the gateway, beside nginx, Envoy and no gateway at all. See `docs/benchmarks.md`.
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

mod backing;
mod cores;
mod drive;
mod gateway;
mod goals;
mod growth;
mod measure;
mod medians;
mod procfs;
mod reply;
mod report;
mod routes;
mod servers;
mod tables;

use anyhow::{Context, ensure};
use clap::Parser;
use cores::Cores;
use growth::Sizes;
use measure::Plan;
use medians::{Median, in_turns};
use procfs::{Machine, resident_kib};
use report::{Report, Start};
use routes::{Lineup, Setup};
use servers::{Folder, Server};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Compares the gateway with nginx, Envoy and no gateway at all, on this machine's loopback.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Args {
    /// The gateway's program; by default the one that was built with this.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_knockx"))]
    binary: PathBuf,
    /// A short run that only shows that everything works.
    #[arg(long)]
    smoke: bool,
    /// Also measures a gateway with Redis and Postgres, which are started for it.
    #[arg(long)]
    redis: bool,
    /// Also measures with a large store and after many simulated days.
    #[arg(long)]
    growth: bool,
    /// Fails when a goal is missed.
    #[arg(long)]
    goals: bool,
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
    #[arg(long, value_delimiter = ',', default_values_t = [500, 2000])]
    streams: Vec<u32>,
    /// Users in the large store, 1000 or more.
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    /// Ledger rows in the large store, 1000 or more.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Past days of those rows, and days that are simulated after them.
    #[arg(long, default_value_t = 100)]
    days: u32,
    /// Also writes the figures and goals here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Envoy's program; without it that route is left out.
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn plan(&self) -> Plan {
        let second = Duration::from_secs(1);
        let plan = Plan {
            rounds: self.rounds.max(1),
            warm_up: second,
            time: Duration::from_secs(self.seconds.max(1)),
            connections: self.connections,
            rates: self.rates.clone(),
            streams: self.streams.clone(),
            stream_time: Duration::from_secs(5),
            events: 10_000,
            settle_time: second,
            hang_ups: 64,
        };
        let short = Plan {
            rounds: 1,
            warm_up: second / 10,
            time: second,
            connections: 8,
            rates: vec![100],
            streams: vec![20],
            stream_time: second / 2,
            events: 1000,
            settle_time: second / 10,
            hang_ups: 4,
        };
        if self.smoke { short } else { plan }
    }

    fn sizes(&self) -> Sizes {
        let Self { users, rows, days, .. } = *self;
        if self.smoke {
            return Sizes { users: 1000, rows: 2000, days: 2, callers: 3, daily_calls: 50 };
        }
        Sizes { users, rows, days, callers: 200, daily_calls: 500 }
    }
}

fn main() -> ExitCode {
    match run_and_print(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("load: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_and_print(args: &Args) -> anyhow::Result<()> {
    let report = run(args)?;
    report.print();
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = report.goals.iter().filter(|goal| goal.met == Some(false)).count();
    ensure!(!args.goals || missed == 0, "goals missed: {missed}");
    Ok(())
}

fn run(args: &Args) -> anyhow::Result<Report> {
    let (plan, machine, cores) = (args.plan(), Machine::here()?, Cores::split()?);
    let binary = args.binary.canonicalize();
    let binary = binary.with_context(|| format!("no program at {}", args.binary.display()))?;
    if args.envoy.is_none() {
        println!(
            "Envoy is left out: it is not installed (benches/load/run installs it, smoke runs aside)."
        );
    }
    let folder = Folder::new()?;
    let simulator = servers::simulator(&cores, &binary)?;
    let envoy = args.envoy.clone();
    let setup = Setup::new(&cores, &folder, &binary, simulator.addr, envoy, args.redis)?;
    let (starts, mut lineup) = starts(&setup, if args.smoke { 1 } else { 5 })?;
    let mut report = Report {
        machine,
        cores: cores.description(),
        command: command(),
        smoke: args.smoke,
        starts,
        plan: plan.clone(),
        streams: Vec::new(),
        paced: Vec::new(),
        saturation: Vec::new(),
        memory: Vec::new(),
        growth: None,
        goals: Vec::new(),
    };
    for &open in &plan.streams {
        measure_streams(&setup, &lineup, open, &mut report)?;
        // What is measured next meets programs that have served nothing, so that memory is its own.
        if !args.smoke {
            drop(lineup);
            lineup = setup.start()?;
        }
    }
    measure_posts(&setup, &lineup, &mut report)?;
    drop(lineup);
    drop(setup);
    if args.growth {
        let sizes = args.sizes();
        let growth = growth::run(&cores, &folder, &binary, simulator.addr, &sizes, &plan)?;
        report.growth = Some(growth);
    }
    Ok(report.judged())
}

/// Time until ready and memory of each program, its data already there; the last start goes on.
fn starts(setup: &Setup<'_>, times: usize) -> anyhow::Result<(Vec<Start>, Lineup)> {
    let mut lineup = setup.start()?;
    let mut starts = vec![Vec::new(); lineup.servers().len()];
    for time in 1..=times {
        for (rounds, server) in starts.iter_mut().zip(lineup.servers()) {
            rounds.push(started(server)?);
        }
        if time < times {
            drop(lineup);
            lineup = setup.start()?;
        }
    }
    Ok((starts.iter().filter_map(|rounds| Start::of(rounds)).collect(), lineup))
}

fn started(server: &Server) -> anyhow::Result<Start> {
    Ok(Start {
        name: server.name,
        ready_ms: server.ready_after.as_secs_f64() * 1000.0,
        idle_kib: resident_kib(server.pid())?,
    })
}

fn measure_streams(
    setup: &Setup<'_>,
    lineup: &Lineup,
    open: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (routes, plan) = (setup.routes(lineup)?, &report.plan);
    let stream = |at: usize| measure::stream(&routes[at], open, plan);
    let streams = in_turns(plan.rounds, routes.len(), stream)?;
    report.streams.extend(streams);
    Ok(())
}

fn measure_posts(setup: &Setup<'_>, lineup: &Lineup, report: &mut Report) -> anyhow::Result<()> {
    let (routes, plan) = (setup.routes(lineup)?, &report.plan);
    for &rate in &plan.rates {
        let pace = |at: usize| measure::pace(&routes[at], rate, plan);
        report.paced.extend(in_turns(plan.rounds, routes.len(), pace)?);
    }
    let saturate = |at: usize| measure::saturate(&routes[at], plan);
    report.saturation = in_turns(plan.rounds, routes.len(), saturate)?;
    for route in &routes {
        report.memory.extend(measure::memory(route, plan)?);
    }
    Ok(())
}

/// The command that repeats this run.
fn command() -> String {
    let added = |word: &String| word == "--bench" || word.starts_with("--envoy=");
    let words = std::env::args().skip(1).filter(|word| !added(word));
    words.fold("benches/load/run".to_owned(), |all, word| all + " " + &word)
}
