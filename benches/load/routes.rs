//! The ways to the simulator that a run compares: none, nginx, Envoy and gateways.

use crate::backing::Backing;
use crate::cores::Cores;
use crate::gateway::Gateway;
use crate::procfs::{cpu_time, resident_kib};
use crate::servers::{self, Folder, Server};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the routes of a run have in common. Its programs can be started as often as needed.
pub struct Setup<'a> {
    pub cores: &'a Cores,
    pub folder: &'a Folder,
    pub simulator: SocketAddr,
    pub envoy: Option<PathBuf>,
    /// The embedded gateway, then with `--redis` the one that shares.
    pub gateways: Vec<Gateway>,
    pub backing: Option<Backing>,
}

/// The programs of one phase, freshly started.
pub struct Lineup {
    servers: Vec<Server>,
}

/// One way to the simulator.
pub struct Route<'a> {
    pub name: &'static str,
    pub addr: SocketAddr,
    server: Option<&'a Server>,
    /// Memory of the program before its first request.
    idle_kib: Option<u64>,
    keys: &'a [String],
    backing: Option<&'a Backing>,
}

/// Processor time so far of a route's program and of the servers behind it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub program: Option<Duration>,
    pub redis: Option<Duration>,
    pub postgres: Option<Duration>,
}

impl<'a> Setup<'a> {
    /// Prepares the gateways; nothing of them runs yet.
    pub fn new(
        cores: &'a Cores,
        folder: &'a Folder,
        binary: &Path,
        simulator: SocketAddr,
        envoy: Option<PathBuf>,
        with_redis: bool,
    ) -> anyhow::Result<Self> {
        let embedded = folder.part("embedded")?;
        let mut gateways = vec![Gateway::embedded("knockx", binary, embedded, simulator)?];
        let backing = with_redis.then(|| Backing::start(cores, &folder.0)).transpose()?;
        if let Some(backing) = &backing {
            let home = folder.part("shared")?;
            gateways.push(Gateway::shared("knockx, Redis", binary, home, simulator, backing)?);
        }
        for gateway in &mut gateways {
            gateway.add_callers(1)?;
        }
        Ok(Self { cores, folder, simulator, envoy, gateways, backing })
    }

    /// Starts every program.
    pub fn start(&self) -> anyhow::Result<Lineup> {
        let (cores, folder) = (self.cores, self.folder.0.as_path());
        let mut servers = vec![servers::nginx(cores, folder, self.simulator)?];
        if let Some(program) = &self.envoy {
            let key = &self.gateways[0].keys[0];
            servers.push(servers::envoy(cores, program, folder, self.simulator, key)?);
        }
        for gateway in &self.gateways {
            servers.push(gateway.start(cores)?);
        }
        Ok(Lineup { servers })
    }

    /// The routes through a lineup, the direct one first.
    pub fn routes<'b>(&'b self, lineup: &'b Lineup) -> anyhow::Result<Vec<Route<'b>>> {
        let keys = &self.gateways[0].keys;
        let mut routes = vec![Route::direct(self.simulator, keys)];
        for server in &lineup.servers {
            let gateway = self.gateways.iter().find(|gateway| gateway.name == server.name);
            let mut route = Route::through(server, gateway.map_or(keys, |gateway| &gateway.keys))?;
            if server.name == "knockx, Redis" {
                route.backing = self.backing.as_ref();
            }
            routes.push(route);
        }
        Ok(routes)
    }
}

impl Lineup {
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }
}

impl<'a> Route<'a> {
    fn direct(addr: SocketAddr, keys: &'a [String]) -> Self {
        Self { name: "direct", addr, server: None, idle_kib: None, keys, backing: None }
    }

    /// Through a program that has served nothing yet.
    pub fn through(server: &'a Server, keys: &'a [String]) -> anyhow::Result<Self> {
        let idle_kib = Some(resident_kib(server.pid())?);
        let (name, addr, server) = (server.name, server.addr, Some(server));
        Ok(Self { name, addr, server, idle_kib, keys, backing: None })
    }

    /// The same chat completion for each of its callers. The simulator reads its orders from the
    /// last message.
    pub fn requests(&self, stream: bool, orders: &str) -> Vec<Vec<u8>> {
        let body = format!(
            r#"{{"model":"grok-4.20-0309-non-reasoning","stream":{stream},"messages":[{{"role":"system","content":"Answer in one short sentence."}},{{"role":"user","content":"Say hello. [sim {orders}]"}}]}}"#
        );
        let request = |key: &String| {
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                self.addr,
                body.len()
            );
            (head + &body).into_bytes()
        };
        self.keys.iter().map(request).collect()
    }

    pub fn spent(&self) -> anyhow::Result<Spent> {
        Ok(Spent {
            program: self.server.map(|server| cpu_time(server.pid())).transpose()?,
            redis: self.backing.map(Backing::redis_cpu).transpose()?,
            postgres: self.backing.map(Backing::postgres_cpu).transpose()?,
        })
    }

    pub fn idle_kib(&self) -> Option<u64> {
        self.idle_kib
    }

    pub fn resident_kib(&self) -> anyhow::Result<Option<u64>> {
        self.server.map(|server| resident_kib(server.pid())).transpose()
    }
}

impl Spent {
    /// The time since `before`, in microseconds for each of `count`.
    pub fn since(self, before: Self, count: f64) -> Cost {
        let each = |after: Option<Duration>, before: Option<Duration>| {
            let spent = after?.saturating_sub(before?);
            Some(spent.as_secs_f64() * 1e6 / count)
        };
        Cost {
            program: each(self.program, before.program),
            redis: each(self.redis, before.redis),
            postgres: each(self.postgres, before.postgres),
        }
    }
}

/// Processor time for each request or event, in microseconds. `None` where there is no such program.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Cost {
    #[serde(rename = "cpu_us")]
    pub program: Option<f64>,
    #[serde(rename = "redis_us")]
    pub redis: Option<f64>,
    #[serde(rename = "postgres_us")]
    pub postgres: Option<f64>,
}
