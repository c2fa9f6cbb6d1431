//! What the kernel says of this machine and of a process with its children.

use anyhow::Context;
use std::fs;
use std::time::Duration;

/// The machine that a figure was taken on.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Machine {
    pub cores: usize,
    pub model: String,
    pub memory_mib: u64,
    pub kernel: String,
}

impl Machine {
    pub fn here() -> anyhow::Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            model: field(&cpus, "model name").unwrap_or("unknown").to_owned(),
            memory_mib: kib(&memory, "MemTotal") / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// Processor time that a process and its children have used.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut ticks = 0;
    for pid in family(pid)? {
        ticks += own_ticks(pid)?;
    }
    // The kernel counts in hundredths of a second towards programs, whatever its own clock.
    Ok(Duration::from_millis(ticks * 10))
}

/// Memory in use by a process and its children, in KiB.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = |pid| fs::read_to_string(format!("/proc/{pid}/status"));
    let mut sum = 0;
    for pid in family(pid)? {
        sum += kib(&status(pid).with_context(|| format!("process {pid} is gone"))?, "VmRSS");
    }
    Ok(sum)
}

fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let list = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(list).with_context(|| format!("process {pid} is gone"))?;
    Ok(std::iter::once(pid).chain(children.split_whitespace().flat_map(str::parse)).collect())
}

/// User and system time: the 14th and 15th field, counted after the name in brackets.
fn own_ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a line of /proc/PID/stat")?;
    let fields = rest.split(' ').skip(11).take(2);
    fields.map(|ticks| Ok(ticks.parse::<u64>()?)).sum()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn kib(text: &str, name: &str) -> u64 {
    let value = field(text, name).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or(0)
}
