//! Quota of another process, over a socket: a gateway that was replaced by a new process finishes its calls with
//! the quota of its successor.
//!
//! Messages are JSON behind a length of four bytes. Requests carry a number and may be answered in any order.

use super::backend::{
    Claim, Correction, ExtendOutcome, QuotaBackend, QuotaUnavailable, RemovedUsage, Reset,
    TakeOutcome, UsageSnapshot,
};
use domain::charge::{Charge, Lease};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::Used;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest message, in bytes: about a million open calls.
const MAX_MESSAGE: u32 = 1 << 30;

/// A method call of [`QuotaBackend`], with its arguments.
#[derive(Debug, Serialize, Deserialize)]
enum Operation {
    Take {
        claim: Box<Claim>,
        now: Timestamp,
    },
    Extend {
        request: RequestId,
        want: u64,
        least: u64,
    },
    Settle(Box<Charge>),
    Reset(Reset),
    Correct(Box<Correction>),
    #[serde(rename = "Standing")]
    UsageSnapshot {
        user: UserId,
        key: Option<KeyId>,
        day: Day,
        now: Timestamp,
    },
    UsedOn(Day),
    Ping,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    number: u64,
    operation: Operation,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    number: u64,
    result: Box<RawValue>,
}

/// Reads one message; `None` at the end of the stream.
///
/// # Errors
/// If the stream breaks, or the message is not valid.
pub async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let length = match stream.read_u32().await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Writes one message.
///
/// # Errors
/// If the stream breaks, or the message is too long.
pub async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// A request to write, and the sender to notify once it is written.
struct Outgoing {
    request: Request,
    written: Option<oneshot::Sender<()>>,
}

/// Quota of the process at the other end of a socket.
pub struct RemoteQuota {
    requests: mpsc::UnboundedSender<Outgoing>,
    replies: Mutex<HashMap<u64, oneshot::Sender<Box<RawValue>>>>,
    number: AtomicU64,
    /// Open calls of this process.
    open: Mutex<HashSet<RequestId>>,
    /// Cancelled when the other process has closed the socket or died.
    pub lost: CancellationToken,
}

impl RemoteQuota {
    /// Connects to the process at the other end of `stream`, which has taken over the `open` calls of this one.
    /// Reading and writing run on `tasks`, until this is dropped or the other process is gone.
    #[must_use]
    pub fn connect(stream: UnixStream, open: HashSet<RequestId>, tasks: &TaskTracker) -> Arc<Self> {
        let (mut reading, mut writing) = stream.into_split();
        let (requests, mut requested) = mpsc::unbounded_channel::<Outgoing>();
        let lost = CancellationToken::new();
        let remote = Arc::new(Self {
            requests,
            replies: Mutex::default(),
            number: AtomicU64::new(0),
            open: Mutex::new(open),
            lost: lost.clone(),
        });
        let weak = Arc::downgrade(&remote);
        let token = lost.clone();
        tasks.spawn(async move {
            while let Some(Outgoing { request, written }) = requested.recv().await {
                if write_message(&mut writing, &request).await.is_err() {
                    break;
                }
                if let Some(written) = written {
                    let _ = written.send(());
                }
            }
            token.cancel();
        });
        tasks.spawn(async move {
            let _lost = lost.clone().drop_guard();
            while let Some(Ok(Some(reply))) =
                lost.run_until_cancelled(read_message::<Reply>(&mut reading)).await
            {
                let Some(remote) = weak.upgrade() else { return };
                if let Some(waiting) = lock(&remote.replies).remove(&reply.number) {
                    let _ = waiting.send(reply.result);
                }
            }
            if let Some(remote) = weak.upgrade() {
                lock(&remote.replies).clear();
            }
        });
        remote
    }

    /// Number of open calls of this process.
    #[must_use]
    pub fn open_leases(&self) -> u64 {
        lock(&self.open).len() as u64
    }

    fn send(
        &self,
        number: u64,
        operation: Operation,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<(), QuotaUnavailable> {
        let outgoing = Outgoing { request: Request { number, operation }, written };
        self.requests.send(outgoing).map_err(|_| QuotaUnavailable)
    }

    async fn call<T: DeserializeOwned>(&self, operation: Operation) -> Result<T, QuotaUnavailable> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (reply, replied) = oneshot::channel();
        lock(&self.replies).insert(number, reply);
        if self.lost.is_cancelled() || self.send(number, operation, None).is_err() {
            lock(&self.replies).remove(&number);
            return Err(QuotaUnavailable);
        }
        let result = tokio::select! {
            result = replied => result.map_err(|_| QuotaUnavailable)?,
            () = self.lost.cancelled() => return Err(QuotaUnavailable),
        };
        serde_json::from_str::<Result<T, QuotaUnavailable>>(result.get())
            .map_err(|_| QuotaUnavailable)?
    }

    pub(super) async fn take(
        &self,
        claim: Claim,
        now: Timestamp,
    ) -> Result<TakeOutcome, QuotaUnavailable> {
        let request = claim.lease.request;
        // Before it is sent, because a lost reply may have been a grant.
        lock(&self.open).insert(request);
        let taken = self.call(Operation::Take { claim: Box::new(claim), now }).await;
        if !matches!(taken, Ok(TakeOutcome::Granted(_))) {
            lock(&self.open).remove(&request);
        }
        taken
    }

    pub(super) async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<ExtendOutcome, QuotaUnavailable> {
        self.call(Operation::Extend { request, want, least }).await
    }

    /// Implements [`QuotaBackend::settle`]. When the other process is gone the lease stays open in its journal, and is
    /// charged at its next start.
    pub(super) async fn settle(&self, charge: Charge) -> u64 {
        let request = charge.request;
        let operation = Operation::Settle(Box::new(charge));
        let overshoot = if self.lost.is_cancelled() {
            // The other process no longer replies, but may still read.
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let (written, is_written) = oneshot::channel();
            if self.send(number, operation, Some(written)).is_ok() {
                let _ = is_written.await;
            }
            0
        } else {
            self.call(operation).await.unwrap_or(0)
        };
        lock(&self.open).remove(&request);
        overshoot
    }

    pub(super) async fn reset(&self, reset: &Reset) -> Result<RemovedUsage, QuotaUnavailable> {
        self.call(Operation::Reset(reset.clone())).await
    }

    pub(super) async fn correct(&self, correction: &Correction) -> Result<(), QuotaUnavailable> {
        self.call(Operation::Correct(Box::new(correction.clone()))).await
    }

    pub(super) async fn usage_snapshot(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<UsageSnapshot, QuotaUnavailable> {
        self.call(Operation::UsageSnapshot { user, key: key.cloned(), day, now }).await
    }

    pub(super) async fn used_on(&self, day: Day) -> Result<Vec<Used>, QuotaUnavailable> {
        self.call(Operation::UsedOn(day)).await
    }

    pub(super) async fn ping(&self) -> Result<(), QuotaUnavailable> {
        self.call(Operation::Ping).await
    }
}

/// Executes the operations that the previous process sends over `stream`, until it closes the stream. `leases` are
/// its open calls. Calls that it leaves open are charged in full; their number is returned. Once `stop` is
/// cancelled the previous process must end its calls: the end of the reply stream signals it.
pub async fn serve(
    quota: Arc<dyn QuotaBackend>,
    leases: Vec<Lease>,
    stream: UnixStream,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> usize {
    let (mut reading, mut writing) = stream.into_split();
    let leases = leases.into_iter().map(|lease| (lease.request, lease)).collect();
    let calls = Arc::new(PredecessorCalls { quota, leases: Mutex::new(leases) });
    let (replies, mut outgoing) = mpsc::unbounded_channel::<Reply>();
    tasks.spawn(async move {
        while let Some(Some(reply)) = stop.run_until_cancelled(outgoing.recv()).await {
            if write_message(&mut writing, &reply).await.is_err() {
                return;
            }
        }
    });
    let running = TaskTracker::new();
    while let Ok(Some(Request { number, operation })) = read_message(&mut reading).await {
        let (calls, replies) = (Arc::clone(&calls), replies.clone());
        let is_take = matches!(operation, Operation::Take { .. });
        let executed = running.spawn(async move {
            if let Ok(result) = calls.execute(operation).await {
                let _ = replies.send(Reply { number, result });
            }
        });
        if is_take {
            // A call may be settled without waiting for its take, which must come first.
            let _ = executed.await;
        }
    }
    running.close();
    running.wait().await;
    calls.abandon_open().await
}

/// The quota that serves the previous process, and the open calls of that process.
struct PredecessorCalls {
    quota: Arc<dyn QuotaBackend>,
    leases: Mutex<HashMap<RequestId, Lease>>,
}

impl PredecessorCalls {
    async fn execute(&self, operation: Operation) -> serde_json::Result<Box<RawValue>> {
        let quota = &self.quota;
        match operation {
            Operation::Take { claim, now } => {
                let lease = claim.lease.clone();
                let taken = quota.take(*claim, now).await;
                if let Ok(TakeOutcome::Granted(grant)) = &taken {
                    let lease = Lease { reserved: grant.tokens, ..lease };
                    lock(&self.leases).insert(lease.request, lease);
                }
                encode(&taken)
            }
            Operation::Extend { request, want, least } => {
                let extended = quota.extend(request, want, least).await;
                if let (Ok(ExtendOutcome::Added(tokens)), Some(lease)) =
                    (&extended, lock(&self.leases).get_mut(&request))
                {
                    lease.reserved += tokens;
                }
                encode(&extended)
            }
            Operation::Settle(charge) => {
                let request = charge.request;
                let overshoot = quota.settle(*charge).await;
                lock(&self.leases).remove(&request);
                encode(&Ok::<_, QuotaUnavailable>(overshoot))
            }
            Operation::Reset(reset) => encode(&quota.reset(&reset).await),
            Operation::Correct(correction) => encode(&quota.correct(&correction).await),
            Operation::UsageSnapshot { user, key, day, now } => {
                encode(&quota.usage_snapshot(user, key.as_ref(), day, now).await)
            }
            Operation::UsedOn(day) => encode(&quota.used_on(day).await),
            Operation::Ping => encode(&quota.ping().await),
        }
    }

    /// Charges the calls that the previous process left open in full, because their usage is not known.
    async fn abandon_open(&self) -> usize {
        let open = std::mem::take(&mut *lock(&self.leases));
        for lease in open.values() {
            self.quota.settle(Charge::abandoned_in_full(lease)).await;
        }
        open.len()
    }
}

fn encode<T: Serialize>(result: &Result<T, QuotaUnavailable>) -> serde_json::Result<Box<RawValue>> {
    serde_json::value::to_raw_value(result)
}

/// Locks plain data, which a panic leaves consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
