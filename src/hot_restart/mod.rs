//! Hot restart: a new process takes over from the running one, without a refused connection or a cut stream.
//!
//! The running gateway (the predecessor) listens on a Unix socket in its data directory. The new process (the
//! successor) connects to it, and they agree step by step:
//!
//! 1. The successor says hello; the predecessor answers with its listening sockets and its locks on the folders.
//! 2. The successor has read its configuration and opened the store, and asks for the service. The predecessor
//!    stops its counters between two operations, writes its journal to the ledger and sends what the ledger does
//!    not have: reservations of open calls and request windows. New operations wait.
//! 3. The successor opens the journal and reports that it is ready. The predecessor answers "go": from here on the
//!    successor accepts connections and owns the counters. If anything fails before, the predecessor goes on.
//! 4. The predecessor accepts nothing any more, finishes its calls with the successor's counters over the same
//!    socket ([`quota::remote`]), and exits. Calls that it leaves open, because it was killed, are charged
//!    in full.
//!
//! With Redis the counters are shared anyway: only the listening sockets move.

pub mod predecessor;
pub mod successor;
mod descriptors;

use quota::model::OpenState;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Version of the messages. A successor with another one is refused.
const PROTOCOL: u32 = 1;
/// Time for a message that needs no work.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a successor from the state to "ready". Calls wait meanwhile.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a successor to open the store, with migrations. Calls do not wait for it.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The first message of a successor.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    pid: u32,
    /// Identifies the stores, see [`crate::config::Config::state_id`].
    state_id: String,
}

/// The predecessor's answer. The descriptors of its sockets and of its lock follow an offer.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Offer(Offer),
    Refusal { reason: String },
}

/// State that a predecessor hands over.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Offer {
    pid: u32,
    /// Fingerprint of the server's secret.
    secret: String,
    /// The addresses as configured: port 0 is any free port.
    public: SocketAddr,
    admin: Option<SocketAddr>,
    has_lock: bool,
    has_journal_lock: bool,
}

/// Request of a successor after the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    /// The state, which ends the predecessor's service.
    Take,
    /// Permission to serve.
    Ready,
}

/// The state of the service; `None` where the counters are in Redis.
#[derive(Debug, Serialize, Deserialize)]
struct State(Option<OpenState>);

/// The successor may serve.
#[derive(Debug, Serialize, Deserialize)]
struct Go;
