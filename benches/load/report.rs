//! The figures of a run, as Markdown tables and as JSON.

use crate::goals::Goal;
use crate::growth::Growth;
use crate::measure::{Memory, Paced, Plan, Saturation, Streams};
use crate::procfs::Machine;
use crate::tables;
use serde::Serialize;

/// Everything one run measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// How the cores were divided.
    pub cores: &'static str,
    pub command: String,
    /// Shows only that it works.
    pub smoke: bool,
    pub plan: Plan,
    pub starts: Vec<Start>,
    pub streams: Vec<Streams>,
    pub paced: Vec<Paced>,
    pub saturation: Vec<Saturation>,
    pub memory: Vec<Memory>,
    pub growth: Option<Growth>,
    pub goals: Vec<Goal>,
}

/// A program just started.
#[derive(Debug, Clone, Serialize)]
pub struct Start {
    pub name: &'static str,
    pub ready_ms: f64,
    pub idle_kib: u64,
}

impl Report {
    /// Compares the figures with the goals.
    pub fn judged(mut self) -> Self {
        self.goals = Goal::all(&self);
        self
    }

    /// The tables as docs/benchmarks.md has them.
    pub fn print(&self) {
        let m = &self.machine;
        println!(
            "{}, {} cores, {} MiB, Linux {}; {}.",
            m.model, m.cores, m.memory_mib, m.kernel, self.cores
        );
        println!("`{}`, medians; rounds: {}.", self.command, self.plan.rounds);
        if self.smoke {
            println!("A smoke run: its figures and verdicts mean nothing.");
        }
        tables::saturation(self);
        tables::paced(self);
        tables::streams(self);
        tables::memory(self);
        if let Some(growth) = &self.growth {
            tables::growth(growth);
        }
        Goal::print(&self.goals);
    }

    pub fn saturated(&self, route: &str) -> Option<&Saturation> {
        self.saturation.iter().find(|s| s.route == route)
    }

    pub fn paced(&self, route: &str, rate: u32) -> Option<&Paced> {
        self.paced.iter().find(|p| p.route == route && p.rate == rate)
    }

    pub fn streams(&self, route: &str, open: u32) -> Option<&Streams> {
        self.streams.iter().find(|s| s.route == route && s.open == open)
    }

    /// Requests at saturation for each second of the program's processor time.
    pub fn per_cpu_second(&self, route: &str) -> Option<f64> {
        Some(1e6 / self.saturated(route)?.cost.program?)
    }

    /// Percentile of the route less that of the direct one, in milliseconds.
    pub fn added_p50(&self, paced: &Paced) -> Option<f64> {
        Some(paced.p50_ms - self.paced("direct", paced.rate)?.p50_ms)
    }

    pub fn added_p99(&self, paced: &Paced) -> Option<f64> {
        Some(paced.p99_ms - self.paced("direct", paced.rate)?.p99_ms)
    }

    pub fn added_first_p50(&self, streams: &Streams) -> Option<f64> {
        Some(streams.first_p50_ms - self.streams("direct", streams.open)?.first_p50_ms)
    }

    pub fn added_first_p99(&self, streams: &Streams) -> Option<f64> {
        Some(streams.first_p99_ms - self.streams("direct", streams.open)?.first_p99_ms)
    }
}
