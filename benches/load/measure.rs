//! The measurements: the same requests along each route.

use crate::drive::{Driver, Outcome};
use crate::routes::{Cost, Route};
use crate::servers::pause;
use anyhow::bail;
use serde::Serialize;
use std::time::Duration;

/// Durations and amounts of load.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub rounds: u32,
    pub warm_up: Duration,
    pub time: Duration,
    /// Requests in flight at saturation.
    pub connections: usize,
    /// Requests a second, at fixed rates.
    pub rates: Vec<u32>,
    /// Streams held open.
    pub streams: Vec<u32>,
    /// How long each stream lasts.
    pub stream_time: Duration,
    /// Events a second, all streams together.
    pub events: u32,
    /// Waited after the last reply before processor time and memory are read, so that work done
    /// behind the replies counts.
    pub settle_time: Duration,
    /// Streams that are hung up on.
    pub hang_ups: usize,
}

/// Small posts, as many as go through.
#[derive(Debug, Clone, Serialize)]
pub struct Saturation {
    pub route: &'static str,
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    #[serde(flatten)]
    pub cost: Cost,
}

/// Small posts at a fixed rate.
#[derive(Debug, Clone, Serialize)]
pub struct Paced {
    pub route: &'static str,
    pub rate: u32,
    pub p50_ms: f64,
    pub p99_ms: f64,
    #[serde(flatten)]
    pub cost: Cost,
}

/// Delay of the first event while many streams are open; the cost is that of an event.
#[derive(Debug, Clone, Serialize)]
pub struct Streams {
    pub route: &'static str,
    pub open: u32,
    pub first_p50_ms: f64,
    pub first_p99_ms: f64,
    #[serde(flatten)]
    pub cost: Cost,
    pub kib_per_stream: Option<f64>,
}

/// Resident memory of a program over a run.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    pub route: &'static str,
    /// Before the first request.
    pub idle_kib: u64,
    /// After all small posts of the run.
    pub loaded_kib: u64,
    /// After callers hung up on streams, so that the tokenizer was used.
    pub after_hang_ups_kib: u64,
}

/// Saturates one route.
pub fn saturate(route: &Route<'_>, plan: &Plan) -> anyhow::Result<Saturation> {
    let requests = route.requests(false, "tokens=8");
    let before = route.spent()?;
    let mut driver = Driver::new(route.addr, &requests, false)?;
    let outcome = driver.saturate(plan.connections, plan.warm_up, plan.time)?;
    must_succeed(route, &outcome)?;
    pause(plan.settle_time);
    Ok(Saturation {
        route: route.name,
        requests_per_second: outcome.rate(),
        p50_ms: percentile(&outcome.whole, 50.0),
        p99_ms: percentile(&outcome.whole, 99.0),
        cost: route.spent()?.since(before, outcome.answered as f64),
    })
}

/// Sends small posts at a fixed rate.
pub fn pace(route: &Route<'_>, rate: u32, plan: &Plan) -> anyhow::Result<Paced> {
    let requests = route.requests(false, "tokens=8");
    let before = route.spent()?;
    let mut driver = Driver::new(route.addr, &requests, false)?;
    let outcome = driver.pace(rate, plan.warm_up, plan.time, |_| {})?;
    must_succeed(route, &outcome)?;
    pause(plan.settle_time);
    Ok(Paced {
        route: route.name,
        rate,
        p50_ms: percentile(&outcome.whole, 50.0),
        p99_ms: percentile(&outcome.whole, 99.0),
        cost: route.spent()?.since(before, outcome.answered as f64),
    })
}

/// Holds `open` streams: as many begin each second as end.
pub fn stream(route: &Route<'_>, open: u32, plan: &Plan) -> anyhow::Result<Streams> {
    let seconds = plan.stream_time.as_secs_f64();
    let gap_ms = (f64::from(open) * 1000.0 / f64::from(plan.events)).max(1.0);
    let tokens = (seconds * 1000.0 / gap_ms).ceil();
    let requests = route.requests(true, &format!("tokens={tokens} token-ms={gap_ms:.0}"));
    let begun_each_second = (f64::from(open) / seconds).ceil() as u32;
    let (before, mut full) = (route.spent()?, None);
    let mut driver = Driver::new(route.addr, &requests, true)?;
    let look =
        |streams: usize| full = route.resident_kib().ok().flatten().map(|kib| (kib, streams));
    let outcome = driver.pace(begun_each_second, plan.stream_time, plan.time, look)?;
    must_succeed(route, &outcome)?;
    pause(plan.settle_time);
    let kib_per_stream = full
        .zip(route.idle_kib())
        .map(|((kib, streams), idle)| kib.saturating_sub(idle) as f64 / streams.max(1) as f64);
    Ok(Streams {
        route: route.name,
        open,
        first_p50_ms: percentile(&outcome.first, 50.0),
        first_p99_ms: percentile(&outcome.first, 99.0),
        cost: route.spent()?.since(before, outcome.answered as f64 * tokens),
        kib_per_stream,
    })
}

/// Memory of a route's program that has served its load, before and after hang-ups; `None` for
/// the direct route.
pub fn memory(route: &Route<'_>, plan: &Plan) -> anyhow::Result<Option<Memory>> {
    let Some((loaded_kib, idle_kib)) = route.resident_kib()?.zip(route.idle_kib()) else {
        return Ok(None);
    };
    let requests = route.requests(true, "tokens=500 token-ms=20");
    let mut driver = Driver::new(route.addr, &requests, true)?;
    let begun = driver.begin(plan.hang_ups)?;
    drop(driver);
    if begun < plan.hang_ups {
        bail!("{}: {begun} of {} streams began", route.name, plan.hang_ups);
    }
    pause(plan.settle_time * 3);
    let after_hang_ups_kib = route.resident_kib()?.unwrap_or(loaded_kib);
    Ok(Some(Memory { route: route.name, idle_kib, loaded_kib, after_hang_ups_kib }))
}

pub fn must_succeed(route: &Route<'_>, outcome: &Outcome) -> anyhow::Result<()> {
    match &outcome.first_failure {
        None if outcome.whole.is_empty() => bail!("{}: no request was counted", route.name),
        None => Ok(()),
        Some(what) => {
            bail!("{}: {} requests failed; the first:\n{what}", route.name, outcome.failed)
        }
    }
}

/// The nearest-rank percentile, in milliseconds.
fn percentile(delays: &[Duration], percent: f64) -> f64 {
    let mut sorted = delays.to_vec();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1000.0)
}
