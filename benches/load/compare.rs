//! The comparison: the same requests to the simulator directly, through nginx and through the
//! gateway, in turns, so that a noisy minute of the machine falls on all of them.

use crate::drive::{Driver, Outcome};
use crate::procfs::{cpu_time, resident_kib};
use crate::servers::{Gateway, Server};
use anyhow::bail;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

/// How long and how hard.
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
}

/// One way to the simulator.
pub struct Route<'a> {
    pub name: &'static str,
    addr: SocketAddr,
    server: Option<&'a Server>,
    key: &'a str,
}

/// Small posts, as many as go through.
#[derive(Debug, Clone, Serialize)]
pub struct Saturation {
    pub route: &'static str,
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub cpu_us_per_request: Option<f64>,
}

/// Small posts at a fixed rate.
#[derive(Debug, Clone, Serialize)]
pub struct Paced {
    pub route: &'static str,
    pub rate: u32,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub cpu_us_per_request: Option<f64>,
}

/// Delay of the first event while many streams are open.
#[derive(Debug, Clone, Serialize)]
pub struct Streams {
    pub route: &'static str,
    pub open: u32,
    pub first_p50_ms: f64,
    pub first_p99_ms: f64,
    pub cpu_us_per_event: Option<f64>,
    pub kib_per_stream: Option<f64>,
}

impl<'a> Route<'a> {
    /// No gateway, nginx, and ours.
    pub fn all(
        simulator: &Server,
        nginx: &'a Server,
        knockx: &'a Server,
        gateway: &'a Gateway,
    ) -> Vec<Self> {
        let key = gateway.key.as_str();
        let through = |server: &'a Server| Self {
            name: server.name,
            addr: server.addr,
            server: Some(server),
            key,
        };
        let direct = Self { name: "direct", addr: simulator.addr, server: None, key };
        vec![direct, through(nginx), through(knockx)]
    }

    /// A chat completion. The simulator reads its orders from the last message.
    fn request(&self, stream: bool, orders: &str) -> Vec<u8> {
        let body = format!(
            r#"{{"model":"grok-4.20-0309-non-reasoning","stream":{stream},"messages":[{{"role":"system","content":"Answer in one short sentence."}},{{"role":"user","content":"Say hello. [sim {orders}]"}}]}}"#
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.addr,
            self.key,
            body.len()
        );
        (head + &body).into_bytes()
    }

    fn cpu(&self) -> anyhow::Result<Option<Duration>> {
        self.server.map(|server| cpu_time(server.pid())).transpose()
    }

    fn resident_kib(&self) -> anyhow::Result<Option<u64>> {
        self.server.map(|server| resident_kib(server.pid())).transpose()
    }

    /// Processor time since `before` over `count`, in microseconds.
    fn cpu_us(&self, before: Option<Duration>, count: f64) -> anyhow::Result<Option<f64>> {
        let spent = self.cpu()?.zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(spent.map(|spent| spent.as_secs_f64() * 1e6 / count))
    }

    fn must_succeed(&self, outcome: &Outcome) -> anyhow::Result<()> {
        match &outcome.first_failure {
            None if outcome.whole.is_empty() => bail!("{}: no request was counted", self.name),
            None => Ok(()),
            Some(what) => {
                bail!("{}: {} requests failed; the first:\n{what}", self.name, outcome.failed)
            }
        }
    }
}

/// Saturates one route.
pub fn saturate(route: &Route<'_>, plan: &Plan) -> anyhow::Result<Saturation> {
    let request = route.request(false, "tokens=8");
    let before = route.cpu()?;
    let mut driver = Driver::new(route.addr, &request, false)?;
    let outcome = driver.saturate(plan.connections, plan.warm_up, plan.time)?;
    route.must_succeed(&outcome)?;
    Ok(Saturation {
        route: route.name,
        requests_per_second: outcome.rate(),
        p50_ms: percentile(&outcome.whole, 50.0),
        p99_ms: percentile(&outcome.whole, 99.0),
        cpu_us_per_request: route.cpu_us(before, outcome.answered as f64)?,
    })
}

/// Sends small posts at a fixed rate.
pub fn pace(route: &Route<'_>, rate: u32, plan: &Plan) -> anyhow::Result<Paced> {
    let request = route.request(false, "tokens=8");
    let before = route.cpu()?;
    let mut driver = Driver::new(route.addr, &request, false)?;
    let outcome = driver.pace(rate, plan.warm_up, plan.time, |_| {})?;
    route.must_succeed(&outcome)?;
    Ok(Paced {
        route: route.name,
        rate,
        p50_ms: percentile(&outcome.whole, 50.0),
        p99_ms: percentile(&outcome.whole, 99.0),
        cpu_us_per_request: route.cpu_us(before, outcome.answered as f64)?,
    })
}

/// Holds `open` streams: as many begin each second as end. `idle_kib` is what the route's
/// program held before its first request.
pub fn stream(
    route: &Route<'_>,
    open: u32,
    idle_kib: Option<u64>,
    plan: &Plan,
) -> anyhow::Result<Streams> {
    let seconds = plan.stream_time.as_secs_f64();
    let gap_ms = (f64::from(open) * 1000.0 / f64::from(plan.events)).max(1.0);
    let tokens = (seconds * 1000.0 / gap_ms).ceil();
    let request = route.request(true, &format!("tokens={tokens} token-ms={gap_ms:.0}"));
    let begun_each_second = (f64::from(open) / seconds).ceil() as u32;
    let (before, mut full) = (route.cpu()?, None);
    let mut driver = Driver::new(route.addr, &request, true)?;
    let look =
        |streams: usize| full = route.resident_kib().ok().flatten().map(|kib| (kib, streams));
    let outcome = driver.pace(begun_each_second, plan.stream_time, plan.time, look)?;
    route.must_succeed(&outcome)?;
    let kib_per_stream = full
        .zip(idle_kib)
        .map(|((kib, streams), idle)| kib.saturating_sub(idle) as f64 / streams.max(1) as f64);
    Ok(Streams {
        route: route.name,
        open,
        first_p50_ms: percentile(&outcome.first, 50.0),
        first_p99_ms: percentile(&outcome.first, 99.0),
        cpu_us_per_event: route.cpu_us(before, outcome.answered as f64 * tokens)?,
        kib_per_stream,
    })
}

/// The nearest-rank percentile, in milliseconds.
pub fn percentile(delays: &[Duration], percent: f64) -> f64 {
    let mut sorted = delays.to_vec();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1000.0)
}
