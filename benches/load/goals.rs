//! The goals of docs/benchmarks.md, each met or missed by a run's figures.

use crate::growth::Growth;
use crate::measure::{Memory, Paced, Saturation, Streams};
use crate::report::Report;
use serde::Serialize;

/// One goal and what a run says about it.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    pub what: &'static str,
    pub bound: Bound,
    pub unit: &'static str,
    /// `None` when this run did not measure it.
    pub figure: Option<f64>,
    pub met: Option<bool>,
}

/// The side on which a figure must be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// The open streams, and the rates, that goals speak of.
const STREAMS: u32 = 2000;
const LOW_RATE: u32 = 1000;
const HIGH_RATE: u32 = 3000;

impl Goal {
    fn new(what: &'static str, bound: Bound, unit: &'static str, figure: Option<f64>) -> Self {
        let met = figure.map(|figure| match bound {
            AtLeast(least) => figure >= least,
            AtMost(most) => figure <= most,
        });
        Self { what, bound, unit, figure, met }
    }

    /// All goals, in the order of docs/benchmarks.md.
    pub fn all(report: &Report) -> Vec<Self> {
        [throughput(report), latency(report), memory(report), redis(report), growth(report)]
            .concat()
    }

    pub fn print(goals: &[Self]) {
        println!("\n## Goals\n\n| goal | bound | measured | |\n| --- | ---: | ---: | --- |");
        for goal in goals {
            let (words, bound) = match goal.bound {
                AtLeast(bound) => ("at least", bound),
                AtMost(bound) => ("at most", bound),
            };
            let shown = |number: f64| format!("{}{}", digits(number), goal.unit);
            let figure = goal.figure.map_or_else(|| "-".to_owned(), shown);
            let verdict = match goal.met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "not measured",
            };
            println!("| {} | {words} {} | {figure} | {verdict} |", goal.what, shown(bound));
        }
    }
}

fn digits(number: f64) -> String {
    match number.abs() {
        large if large >= 1000.0 => format!("{number:.0}"),
        middle if middle >= 20.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn throughput(report: &Report) -> Vec<Goal> {
    let to = |other: &str| Some(report.per_cpu_second("knockx")? / report.per_cpu_second(other)?);
    vec![
        Goal::new("requests per CPU-second, to Envoy's", AtLeast(1.0), "", to("envoy")),
        Goal::new("requests per CPU-second, to nginx's", AtLeast(0.4), "", to("nginx")),
    ]
}

fn latency(report: &Report) -> Vec<Goal> {
    let high = report.paced("knockx", HIGH_RATE);
    let low = report.paced("knockx", LOW_RATE);
    let envoy = report.paced("envoy", LOW_RATE).and_then(|p| report.added_p99(p));
    let streams = report.streams("knockx", STREAMS);
    let per_event = |route| report.streams(route, STREAMS).and_then(|s: &Streams| s.cost.program);
    let to_nginx = per_event("knockx").zip(per_event("nginx")).map(|(ours, its)| ours / its);
    let added_p50 = |p: Option<&Paced>| p.and_then(|p| report.added_p50(p));
    let added_p99 = |p: Option<&Paced>| p.and_then(|p| report.added_p99(p));
    let first = streams.and_then(|s| report.added_first_p99(s));
    vec![
        Goal::new("added latency at 3,000/s, p50", AtMost(0.15), " ms", added_p50(high)),
        Goal::new("added latency at 3,000/s, p99", AtMost(1.0), " ms", added_p99(high)),
        Goal::new(
            "added latency at 1,000/s, p99 (bound: Envoy's, or 0.5 ms)",
            AtMost(envoy.unwrap_or(0.5).max(0.5)),
            " ms",
            added_p99(low),
        ),
        Goal::new("first event, 2,000 streams open, added p99", AtMost(1.0), " ms", first),
        Goal::new("CPU per event, 2,000 streams open, to nginx's", AtMost(1.5), "", to_nginx),
    ]
}

fn memory(report: &Report) -> Vec<Goal> {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let start = report.starts.iter().find(|start| start.name == "knockx");
    let memory = report.memory.iter().find(|memory| memory.route == "knockx");
    let loaded = memory.map(|m: &Memory| mib(m.loaded_kib.max(m.after_hang_ups_kib)));
    let per_stream = report.streams("knockx", STREAMS).and_then(|s| s.kib_per_stream);
    vec![
        Goal::new("memory, idle", AtMost(32.0), " MiB", start.map(|start| mib(start.idle_kib))),
        Goal::new("memory, loaded, tokenizer in use", AtMost(64.0), " MiB", loaded),
        Goal::new("memory per open stream, 2,000 open", AtMost(32.0), " KiB", per_stream),
        Goal::new("ready, empty store", AtMost(50.0), " ms", start.map(|start| start.ready_ms)),
    ]
}

fn redis(report: &Report) -> Vec<Goal> {
    let shared = report.saturated("knockx, Redis");
    let calls = shared.and_then(|s: &Saturation| Some(1e6 / s.cost.redis?));
    let ratio = report.per_cpu_second("knockx, Redis").zip(report.per_cpu_second("knockx"));
    let to_embedded = ratio.map(|(shared, embedded)| shared / embedded);
    vec![
        Goal::new("calls per second of one Redis core", AtLeast(15_000.0), "", calls),
        Goal::new("requests per CPU-second with Redis, to embedded", AtLeast(0.8), "", to_embedded),
    ]
}

fn growth(report: &Report) -> Vec<Goal> {
    let growth = report.growth.as_ref();
    let killed = growth.map(|growth| growth.ready_after_kill_ms);
    vec![
        Goal::new(
            "CPU per call, filled store after the days, to empty",
            AtMost(1.1),
            "",
            growth.and_then(Growth::ratio),
        ),
        Goal::new("ready, filled store, killed before", AtMost(2000.0), " ms", killed),
    ]
}
