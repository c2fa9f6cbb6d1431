//! Processor cores: the measured program runs alone on one, everything else on the others.

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::process::{Child, Command};

/// Which cores a program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one core of the programs that are compared. They run in turns, so each has it alone.
    Measured,
    /// The cores of the load, the simulator, Redis and Postgres.
    Rest,
}

/// The split of this machine's cores.
pub struct Cores {
    measured: CpuSet,
    rest: CpuSet,
    split: bool,
}

impl Cores {
    /// Reserves the first core that this process may use, and moves this thread to the others.
    /// With a single core nothing is split.
    pub fn split() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("reading the CPU affinity")?;
        let (mut measured, mut rest) = (CpuSet::new(), CpuSet::new());
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        if let Some(first) = cores.next() {
            measured.set(first);
        }
        cores.for_each(|core| rest.set(core));
        if rest.count() == 0 {
            return Ok(Self { measured: allowed, rest: allowed, split: false });
        }
        let cores = Self { measured, rest, split: true };
        cores.pin(Side::Rest)?;
        Ok(cores)
    }

    /// Starts a program on its side. A child inherits the affinity of the thread that starts it.
    pub fn spawn(&self, command: &mut Command, side: Side) -> anyhow::Result<Child> {
        self.pin(side)?;
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"));
        self.pin(Side::Rest)?;
        child
    }

    /// A sentence for the report.
    pub fn description(&self) -> &'static str {
        if self.split {
            "each measured program alone on one core, everything else on the others"
        } else {
            "everything on one core: absolute figures and latencies mean little"
        }
    }

    fn pin(&self, side: Side) -> anyhow::Result<()> {
        let set = if side == Side::Measured { &self.measured } else { &self.rest };
        sched_setaffinity(None, set).context("setting the CPU affinity")
    }
}
