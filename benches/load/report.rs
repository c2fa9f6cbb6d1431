//! The figures: medians over the rounds, as Markdown tables and as JSON.

use crate::compare::{Paced, Plan, Saturation, Streams};
use crate::procfs::Machine;
use serde::Serialize;

/// Everything one run found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub command: String,
    pub plan: Plan,
    pub starts: Vec<Start>,
    pub streams: Vec<Streams>,
    pub paced: Vec<Paced>,
    pub saturation: Vec<Saturation>,
}

/// A program just started.
#[derive(Debug, Clone, Serialize)]
pub struct Start {
    pub name: &'static str,
    pub ready_ms: f64,
    pub idle_kib: u64,
}

impl Report {
    /// The tables, each with what it is compared to.
    pub fn print(&self) {
        let m = &self.machine;
        println!(
            "Machine: {}, {} cores, {} MiB, Linux {}",
            m.model, m.cores, m.memory_mib, m.kernel
        );
        println!("Command: {}", self.command);
        println!("Medians of {} rounds, the routes in turns.", self.plan.rounds);
        self.print_starts();
        self.print_streams();
        self.print_paced();
        self.print_saturation();
    }

    fn print_starts(&self) {
        println!("\n| started | ready after | idle memory |\n| --- | ---: | ---: |");
        for s in &self.starts {
            println!(
                "| {} | {:.0} ms | {:.1} MiB |",
                s.name,
                s.ready_ms,
                s.idle_kib as f64 / 1024.0
            );
        }
    }

    fn print_streams(&self) {
        println!(
            "\n| streams open | route | first event p50 | p99 | added p50 | added p99 | CPU per event | memory per stream |\n\
             | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        );
        for s in &self.streams {
            let base = self.streams.iter().find(|d| d.open == s.open && d.route == "direct");
            let added = base.map_or((0.0, 0.0), |d| {
                (s.first_p50_ms - d.first_p50_ms, s.first_p99_ms - d.first_p99_ms)
            });
            println!(
                "| {} | {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {} | {} |",
                s.open,
                s.route,
                s.first_p50_ms,
                s.first_p99_ms,
                added.0,
                added.1,
                shown(s.cpu_us_per_event, "µs"),
                shown(s.kib_per_stream, "KiB")
            );
        }
    }

    fn print_paced(&self) {
        println!(
            "\n| requests/s | route | p50 | p99 | added p50 | added p99 | CPU per request |\n\
             | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
        );
        for p in &self.paced {
            let base = self.paced.iter().find(|d| d.rate == p.rate && d.route == "direct");
            let added = base.map_or((0.0, 0.0), |d| (p.p50_ms - d.p50_ms, p.p99_ms - d.p99_ms));
            println!(
                "| {} | {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {} |",
                p.rate,
                p.route,
                p.p50_ms,
                p.p99_ms,
                added.0,
                added.1,
                shown(p.cpu_us_per_request, "µs")
            );
        }
    }

    fn print_saturation(&self) {
        println!(
            "\n| saturated | requests/s | to nginx | p50 | p99 | CPU per request | requests per CPU-second |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        );
        let nginx = self.saturation.iter().find(|s| s.route == "nginx");
        for s in &self.saturation {
            let ratio = nginx.map_or(f64::NAN, |n| s.requests_per_second / n.requests_per_second);
            println!(
                "| {} | {:.0} | {:.2} | {:.2} ms | {:.2} ms | {} | {} |",
                s.route,
                s.requests_per_second,
                ratio,
                s.p50_ms,
                s.p99_ms,
                shown(s.cpu_us_per_request, "µs"),
                s.cpu_us_per_request
                    .map_or_else(|| "-".to_owned(), |us| format!("{:.0}", 1e6 / us))
            );
        }
    }
}

fn shown(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} {unit}"))
}

/// The middle of the rounds' values; of an even number, the lower one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Rounds of the same measurement become one.
pub trait Median: Sized + Clone {
    /// The fields of the first, each the median of that field over all.
    fn of(rounds: &[Self]) -> Option<Self>;
}

fn optional<T>(rounds: &[T], field: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    rounds.iter().all(|r| field(r).is_some()).then(|| median(rounds.iter().filter_map(&field)))
}

impl Median for Saturation {
    fn of(rounds: &[Self]) -> Option<Self> {
        Some(Self {
            route: rounds.first()?.route,
            requests_per_second: median(rounds.iter().map(|r| r.requests_per_second)),
            p50_ms: median(rounds.iter().map(|r| r.p50_ms)),
            p99_ms: median(rounds.iter().map(|r| r.p99_ms)),
            cpu_us_per_request: optional(rounds, |r| r.cpu_us_per_request),
        })
    }
}

impl Median for Paced {
    fn of(rounds: &[Self]) -> Option<Self> {
        let first = rounds.first()?;
        Some(Self {
            p50_ms: median(rounds.iter().map(|r| r.p50_ms)),
            p99_ms: median(rounds.iter().map(|r| r.p99_ms)),
            cpu_us_per_request: optional(rounds, |r| r.cpu_us_per_request),
            ..first.clone()
        })
    }
}

impl Median for Streams {
    fn of(rounds: &[Self]) -> Option<Self> {
        let first = rounds.first()?;
        Some(Self {
            first_p50_ms: median(rounds.iter().map(|r| r.first_p50_ms)),
            first_p99_ms: median(rounds.iter().map(|r| r.first_p99_ms)),
            cpu_us_per_event: optional(rounds, |r| r.cpu_us_per_event),
            kib_per_stream: optional(rounds, |r| r.kib_per_stream),
            ..first.clone()
        })
    }
}

impl Median for Start {
    fn of(rounds: &[Self]) -> Option<Self> {
        let first = rounds.first()?;
        Some(Self { ready_ms: median(rounds.iter().map(|r| r.ready_ms)), ..first.clone() })
    }
}
