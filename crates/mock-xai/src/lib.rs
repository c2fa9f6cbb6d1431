//! A simulator of xAI's API for demos, tests and load; the data plane never uses it.
//!
//! It speaks every surface of the wire format as xAI does, counts tokens exactly, can fail in every
//! way an upstream fails ([`fault`]), and records the true usage of each answer ([`request_log`]). Same
//! seed and same request, same answer.

pub mod settings;
pub mod surfaces;
pub mod fault;
mod account_error;
mod connections;
mod socket;
mod routes;
mod sim_routes;
mod fault_replies;
mod request;
mod schema_value;
mod strictness;
mod model;
mod words;
mod answer;
mod reply;
mod pacing;
mod corrupt;
mod refusal;
mod deferred_completions;
mod stored_responses;
pub mod bill;
pub mod request_log;

use fault::Faults;
use http::HeaderMap;
use model::Model;
use parking_lot::RwLock;
use request_log::RequestLog;
use settings::Settings;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The simulator's state, shared by all connections.
#[derive(Debug)]
pub struct Simulator {
    settings: Settings,
    /// The bound address, for links.
    address: String,
    models: Vec<Model>,
    headers: HeaderMap,
    /// For all requests; can change while running.
    faults: RwLock<Faults>,
    stored: stored_responses::StoredResponses,
    deferred: deferred_completions::DeferredCompletions,
    request_ids: RequestIds,
    log: Arc<RequestLog>,
}

/// A simulator that is serving requests.
#[derive(Debug, Clone)]
pub struct RunningSimulator {
    pub addr: SocketAddr,
    pub log: Arc<RequestLog>,
    simulator: Arc<Simulator>,
}

impl Simulator {
    /// Serves on `listener` until `stop`; open streams end with it.
    ///
    /// # Errors
    /// The log file cannot be opened, or the listener has no address.
    pub fn start(
        settings: Settings,
        listener: TcpListener,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<RunningSimulator> {
        let addr = listener.local_addr()?;
        let log = Arc::new(RequestLog::open(settings.log.as_deref())?);
        // Building the tokenizer takes some milliseconds that no request should pay.
        o200k::prepare();
        let simulator = Arc::new(Self {
            address: addr.to_string(),
            models: model::all(&settings.more_models),
            headers: reply::common_headers(),
            faults: RwLock::new(settings.faults.clone()),
            stored: stored_responses::StoredResponses::default(),
            deferred: deferred_completions::DeferredCompletions::default(),
            request_ids: RequestIds::default(),
            log: Arc::clone(&log),
            settings,
        });
        tasks.spawn(connections::flush_log_periodically(Arc::clone(&log), stop.clone()));
        tasks.spawn(connections::accept(Arc::clone(&simulator), listener, tasks.clone(), stop));
        Ok(RunningSimulator { addr, log, simulator })
    }

    fn faults(&self) -> Faults {
        self.faults.read().clone()
    }

    fn set_faults(&self, faults: Faults) {
        *self.faults.write() = faults;
    }
}

/// Request request_ids: unique over restarts, and without a system call each.
#[derive(Debug)]
struct RequestIds {
    run: u64,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { run: uuid::Uuid::now_v7().as_u64_pair().0, next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    fn draw(&self) -> String {
        uuid::Uuid::from_u64_pair(self.run, self.next.fetch_add(1, Ordering::Relaxed)).to_string()
    }
}

impl RunningSimulator {
    /// The base address for clients, without `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Applies these faults from the next request on, unless a request names its own.
    pub fn set_faults(&self, faults: Faults) {
        self.simulator.set_faults(faults);
    }
}

#[cfg(test)]
mod tests;
