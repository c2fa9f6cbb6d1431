//! A run with `--growth`: the cost of a call with a large store and after many days.
//!
//! Two embedded gateways get the same requests in turns: one with an empty store, one with a store
//! that `scripts/scale` has filled. Then days pass for the second: libfaketime moves its clock, a
//! day at a time, with calls on each. Both run under libfaketime, so that its cost is on both sides.

use crate::cores::Cores;
use crate::drive::Driver;
use crate::gateway::Gateway;
use crate::measure::{self, Plan, Saturation};
use crate::medians::{in_turns, median};
use crate::routes::Route;
use crate::servers::{Folder, Server, pause};
use anyhow::{Context, bail, ensure};
use serde::Serialize;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How much the store holds.
#[derive(Debug, Clone, Serialize)]
pub struct Sizes {
    pub users: u64,
    /// Rows of the ledger, over as many past days as days are simulated afterwards.
    pub rows: u64,
    pub days: u32,
    /// Users who call, the same number on both stores.
    pub callers: usize,
    /// Calls a second on each simulated day, for a second.
    pub daily_calls: u32,
}

/// Figures of a growth run.
#[derive(Debug, Serialize)]
pub struct Growth {
    pub sizes: Sizes,
    pub fill_seconds: f64,
    /// Days after today in the ledger in the end; 0 without libfaketime.
    pub simulated_days: u32,
    pub stores: Vec<StoreFigures>,
    /// From a start after a kill under load until ready, on the filled store.
    pub ready_after_kill_ms: f64,
}

/// One store at one time.
#[derive(Debug, Serialize)]
pub struct StoreFigures {
    pub store: &'static str,
    pub cpu_us_per_call: Option<f64>,
    pub requests_per_second: f64,
    pub ready_ms: f64,
    pub resident_kib: u64,
}

/// The secret that `scripts/scale` gives its store.
const SECRET: &str = "scale-0123456789-scale-0123456789-scale";
/// The time after which libfaketime reads its file again.
const CLOCK_CACHE: Duration = Duration::from_secs(1);

/// Fills a store and measures.
pub fn run(
    cores: &Cores,
    folder: &Folder,
    binary: &Path,
    simulator: SocketAddr,
    sizes: &Sizes,
    plan: &Plan,
) -> anyhow::Result<Growth> {
    let filled_home = folder.part("filled")?;
    let fill_seconds = fill(binary, &filled_home, sizes)?;
    let clock = Clock::find(&folder.0)?;
    let gateway = |name, home: PathBuf| -> anyhow::Result<Gateway> {
        let secret = [("SECRET_KEY", SECRET.to_owned())];
        let clock = clock.as_ref().map(|clock| clock.environment(name)).into_iter().flatten();
        let mut gateway =
            Gateway::embedded(name, binary, home, simulator)?.with(secret).with(clock);
        // A first start writes the plan of its configuration into the store.
        drop(gateway.start(cores)?);
        gateway.add_callers(sizes.callers)?;
        Ok(gateway)
    };
    let empty = gateway("empty", folder.part("empty")?)?;
    let filled = gateway("filled", filled_home)?;
    let ready = [ready_ms(&empty, cores, plan)?, ready_ms(&filled, cores, plan)?];

    let (empty_server, filled_server) = (empty.start(cores)?, filled.start(cores)?);
    let routes = [
        Route::through(&empty_server, &empty.keys)?,
        Route::through(&filled_server, &filled.keys)?,
    ];
    let both = || in_turns(plan.rounds, 2, |at| measure::saturate(&routes[at], plan));
    let young = both()?;
    let mut stores = Vec::new();
    for (at, name) in ["empty", "filled"].into_iter().enumerate() {
        stores.push(StoreFigures::new(name, &young[at], ready[at], &routes[at])?);
    }
    let simulated_days = match &clock {
        Some(clock) => {
            live_through(clock, &routes[1], sizes, plan)?;
            must_have_lived_through(sizes.days, &folder.0.join("filled/knockx.db"))?
        }
        None => 0,
    };
    let old = both()?;
    for (at, name) in ["empty, again", "filled, after the days"].into_iter().enumerate() {
        stores.push(StoreFigures::new(name, &old[at], ready[at], &routes[at])?);
    }
    let ready_after_kill_ms = ready_after_kill(&filled, filled_server, cores, plan)?;
    Ok(Growth { sizes: sizes.clone(), fill_seconds, simulated_days, stores, ready_after_kill_ms })
}

/// Fills an SQLite store in `folder`; returns the seconds that it took.
fn fill(binary: &Path, folder: &Path, sizes: &Sizes) -> anyhow::Result<f64> {
    let began = Instant::now();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/scale");
    let mut command = Command::new("python3");
    command.arg(script).arg(binary).args(["--sqlite", "--fill-only", "--keep"]).arg(folder);
    command.args(["--users", &sizes.users.to_string(), "--rows", &sizes.rows.to_string()]);
    command.args(["--days", &sizes.days.to_string()]);
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&text).trim());
    }
    Ok(began.elapsed().as_secs_f64())
}

fn ready_ms(gateway: &Gateway, cores: &Cores, plan: &Plan) -> anyhow::Result<f64> {
    let start = |_| Ok(milliseconds(gateway.start(cores)?.ready_after));
    let starts = (0..plan.rounds).map(start).collect::<anyhow::Result<Vec<f64>>>()?;
    Ok(median(starts.into_iter()))
}

/// Moves the gateway's clock a day at a time, with calls on each.
fn live_through(
    clock: &Clock,
    route: &Route<'_>,
    sizes: &Sizes,
    plan: &Plan,
) -> anyhow::Result<()> {
    let requests = route.requests(false, "tokens=8");
    let none = Duration::ZERO;
    for day in 1..=sizes.days {
        clock.set(route.name, day)?;
        pause(CLOCK_CACHE + plan.settle_time / 10);
        let mut driver = Driver::new(route.addr, &requests, false)?;
        let outcome = driver.pace(sizes.daily_calls, none, Duration::from_secs(1), |_| {})?;
        measure::must_succeed(route, &outcome).with_context(|| format!("on day {day}"))?;
    }
    Ok(())
}

/// Days after today in the ledger. Its writer may be a moment behind, and a run over midnight has
/// one fewer.
fn must_have_lived_through(days: u32, database: &Path) -> anyhow::Result<u32> {
    let query = "import sqlite3, sys; \
        store = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True); \
        days = 'select count(distinct day) from usage_daily where day > date(\\'now\\')'; \
        print(store.execute(days).fetchone()[0])";
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let output = Command::new("python3").args(["-c", query]).arg(database).output()?;
        let seen = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
        if seen >= days {
            return Ok(seen);
        }
        if Instant::now() > until {
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(seen > 0 && seen + 1 >= days, "the ledger has {seen} of {days} days {error}");
            return Ok(seen);
        }
        pause(CLOCK_CACHE / 5);
    }
}

/// Kills the gateway while streams are open, starts it again, and returns the time until ready.
fn ready_after_kill(
    gateway: &Gateway,
    server: Server,
    cores: &Cores,
    plan: &Plan,
) -> anyhow::Result<f64> {
    let route = Route::through(&server, &gateway.keys)?;
    let requests = route.requests(true, "tokens=500 token-ms=20");
    let mut driver = Driver::new(route.addr, &requests, true)?;
    driver.begin(plan.hang_ups)?;
    server.kill()?;
    Ok(milliseconds(gateway.start(cores)?.ready_after))
}

impl StoreFigures {
    fn new(
        store: &'static str,
        load: &Saturation,
        ready_ms: f64,
        route: &Route<'_>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            store,
            cpu_us_per_call: load.cost.program,
            requests_per_second: load.requests_per_second,
            ready_ms,
            resident_kib: route.resident_kib()?.unwrap_or_default(),
        })
    }
}

impl Growth {
    /// The cost of a call after the days, to that with the empty store in the same turns.
    pub fn ratio(&self) -> Option<f64> {
        let cost = |name: &str| {
            let store = self.stores.iter().find(|store| store.store == name);
            store.and_then(|store| store.cpu_us_per_call)
        };
        Some(cost("filled, after the days")? / cost("empty, again")?)
    }
}

/// A wall clock that can be moved, each gateway its own: libfaketime, which stands between a
/// program and the C library.
struct Clock {
    library: PathBuf,
    folder: PathBuf,
}

impl Clock {
    /// `None` when libfaketime is not installed.
    fn find(folder: &Path) -> anyhow::Result<Option<Self>> {
        let platforms = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut libraries = platforms.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
        let Some(library) = libraries.find(|path| path.exists()) else {
            println!(
                "No days are simulated: libfaketime is missing (Debian: apt-get install faketime)."
            );
            return Ok(None);
        };
        let clock = Self { library, folder: folder.to_owned() };
        clock.set("empty", 0)?;
        clock.set("filled", 0)?;
        Ok(Some(clock))
    }

    /// Monotonic time, which timers go by, stays as it is.
    fn environment(&self, gateway: &str) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(gateway).display().to_string()),
            ("FAKETIME_CACHE_DURATION", CLOCK_CACHE.as_secs().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// Moves a gateway's clock to so many days from now.
    fn set(&self, gateway: &str, days: u32) -> anyhow::Result<()> {
        let (file, new) = (self.file(gateway), self.folder.join("clock.new"));
        fs::write(&new, format!("+{days}d\n"))?;
        Ok(fs::rename(new, file)?)
    }

    fn file(&self, gateway: &str) -> PathBuf {
        self.folder.join(format!("clock.{gateway}"))
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
