//! Relay of a stream: event by event as it comes, each shown to the meter.
//!
//! What the caller receives is the upstream's bytes, except: the usage chunk it did not ask for is
//! taken out, keep-alive comments fill long silences, and an ending that is not the upstream's own
//! says what it is. An event that would pass the reservation waits until more is reserved.
//! The charge is durable before `[DONE]` leaves.

use super::allowance::{Allowance, Verdict};
use super::forward::{Forwarded, caller_gone};
use super::leash::{Leash, Pulled};
use super::reply;
use super::reserve::Reservation;
use super::settle::Ending;
use crate::account::charge::Status;
use crate::openai::chunk::{self, Chunk, Seen};
use crate::openai::error::ErrorBody;
use crate::openai::request::ChatRequest;
use crate::openai::sse::{Event, Scanner};
use bytes::{Bytes, BytesMut};
use pingora_core::protocols::http::ServerSession;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Exactly a comment and a blank line: anything else breaks some SDK's parser.
const KEEPALIVE: &[u8] = b": keep-alive\n\n";

/// What bounds a stream.
pub struct Bounds {
    /// Largest event, in bytes.
    pub event_bytes: usize,
    /// Comment after this much silence; `None` = never.
    pub keepalive: Option<Duration>,
    /// How long the caller may read nothing.
    pub patience: Duration,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The upstream finished; `[DONE]` is still to be sent when it came.
    Complete,
    CallerGone,
    QuotaReached,
    Pulled(Pulled),
    UpstreamCut(&'static str),
}

/// An event, and what becomes of it.
struct Judged {
    raw: Bytes,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Goes to the caller as it came, once it is covered.
    Passes,
    /// The usage chunk that only the gateway asked for.
    Unasked,
    /// `[DONE]`.
    Last,
    /// The upstream gave up.
    Error,
}

/// A stream under way.
pub struct Stream<'a> {
    pub session: &'a mut ServerSession,
    pub forwarded: Forwarded,
    pub request: &'a ChatRequest<'a>,
    pub leash: Leash,
    pub bounds: Bounds,
    allowance: Allowance<'a>,
    scanner: Scanner,
    seen: Seen,
    /// Passed by the meter, not yet written.
    out: BytesMut,
    /// An event that has to wait for more to be reserved.
    waiting: Option<Judged>,
    /// `[DONE]` and what came after it.
    last: Option<Bytes>,
    /// When the first output came.
    first_output_at: Option<Instant>,
    /// A write was given up half way: nothing may follow it.
    torn: bool,
}

impl<'a> Stream<'a> {
    /// A stream whose head has been sent to the caller.
    #[must_use]
    pub fn new(
        session: &'a mut ServerSession,
        forwarded: Forwarded,
        request: &'a ChatRequest<'a>,
        reservation: Reservation,
        leash: Leash,
        bounds: Bounds,
        slice_tokens: u64,
    ) -> Self {
        let scanner = Scanner::new(bounds.event_bytes);
        let allowance = Allowance::new(reservation, request, slice_tokens);
        Self {
            session,
            forwarded,
            request,
            leash,
            bounds,
            allowance,
            scanner,
            seen: Seen::default(),
            out: BytesMut::new(),
            waiting: None,
            last: None,
            first_output_at: None,
            torn: false,
        }
    }

    /// Relays to the end, settles, and writes the ending. Returns how the call ended.
    pub async fn run(mut self) -> Status {
        let end = self.relay().await;
        let status = match end {
            End::Complete => Status::Complete,
            End::CallerGone => Status::CutByClient,
            End::QuotaReached => Status::CutByQuota,
            End::Pulled(why) => why.status(),
            End::UpstreamCut(_) => Status::CutByUpstream,
        };
        let ending_bytes = self.ending_bytes(end);
        let Self { session, forwarded, mut allowance, bounds, torn, first_output_at, .. } = self;
        let (ending, reservation) = {
            let upstream = Arc::clone(&forwarded.upstream);
            let first = first_output_at.map(Instant::into_std);
            let ending = ending_of(status, &mut allowance, upstream, first);
            (ending, allowance.into_reservation())
        };
        let tasks = reservation.tasks();
        // An upstream that has more to say is cancelled before anyone is waited for.
        let finished = (end == End::Complete).then_some(forwarded);
        reservation.settle(ending).await;
        if finished.is_none() && end != End::QuotaReached {
            session.set_keepalive(None);
        }
        if end == End::CallerGone || torn {
            // What was written may end in the middle of a chunk: nothing may follow it.
            reply::give_up(session).await;
            return status;
        }
        let _ = reply::send(session, ending_bytes, true, bounds.patience).await;
        if let Some(forwarded) = finished {
            tasks.spawn(recycle(forwarded));
        }
        status
    }

    async fn relay(&mut self) -> End {
        let mut quiet = Quiet::from(Instant::now());
        loop {
            if let Some(end) = self.take_in_events() {
                return self.flush().await.unwrap_or(end);
            }
            let says_something = !self.out.is_empty();
            if let Some(end) = self.flush().await {
                return end;
            }
            if says_something {
                quiet.caller = Instant::now();
            }
            match self.wait(quiet).await {
                Woken::Bytes => quiet.upstream = Instant::now(),
                // Time spent waiting for quota is not the upstream's silence.
                Woken::Extended => quiet.upstream = Instant::now(),
                Woken::Silence => self.out.extend_from_slice(KEEPALIVE),
                Woken::End(end) => return end,
            }
        }
    }

    /// Waits for the next thing that happens to this stream.
    async fn wait(&mut self, quiet: Quiet) -> Woken {
        let blocked = self.waiting.is_some();
        let keepalive = at(self.bounds.keepalive.map(|after| quiet.caller + after));
        let idle = at((!blocked).then(|| quiet.upstream + self.forwarded.exchange.idle()));
        tokio::select! {
            biased;
            // Before the upstream: bytes that are always there must not outrun the deadline.
            why = self.leash.pulled() => Woken::End(End::Pulled(why)),
            verdict = self.allowance.changed(blocked) => match verdict {
                Verdict::Retry => Woken::Extended,
                Verdict::Exhausted => Woken::End(End::QuotaReached),
            },
            next = self.forwarded.exchange.next(), if !blocked => match next {
                Ok(Some(bytes)) => {
                    self.scanner.push(&bytes);
                    Woken::Bytes
                }
                Ok(None) => Woken::End(self.upstream_ended()),
                Err(cut) => {
                    tracing::warn!(request_id = %self.allowance.request(), %cut, "upstream cut the stream");
                    Woken::End(End::UpstreamCut("the upstream ended the stream early"))
                }
            },
            () = caller_gone(self.session) => Woken::End(End::CallerGone),
            () = keepalive => Woken::Silence,
            () = idle => Woken::End(End::UpstreamCut("the upstream fell silent")),
        }
    }

    /// Takes in every whole event there is, until one has to wait or is the last.
    fn take_in_events(&mut self) -> Option<End> {
        loop {
            let event = match self.waiting.take() {
                Some(event) => event,
                None => match self.scanner.next_event() {
                    Ok(Some(event)) => self.judge(event),
                    Ok(None) => return None,
                    Err(oversize) => {
                        tracing::warn!(request_id = %self.allowance.request(), %oversize, "upstream cut off");
                        return Some(End::UpstreamCut("the upstream sent an oversized event"));
                    }
                },
            };
            match event.fate {
                Fate::Last => {
                    let mut last = BytesMut::from(&event.raw[..]);
                    last.extend_from_slice(&self.scanner.rest());
                    self.last = Some(last.freeze());
                    return Some(End::Complete);
                }
                Fate::Error => return Some(End::UpstreamCut("the upstream reported an error")),
                Fate::Unasked => {}
                Fate::Passes if self.allowance.covers() => self.out.extend_from_slice(&event.raw),
                Fate::Passes => {
                    self.waiting = Some(event);
                    return None;
                }
            }
        }
    }

    /// Shows an event to the meter and decides what becomes of it.
    fn judge(&mut self, event: Event) -> Judged {
        let fate = if event.is_done() { Fate::Last } else { self.fate(event.data.as_deref()) };
        Judged { raw: event.raw, fate }
    }

    /// An event that is not understood passes: the caller's client may know it.
    fn fate(&mut self, data: Option<&[u8]>) -> Fate {
        let Some(chunk) = data.and_then(Chunk::parse) else {
            if data.is_some_and(|data| !data.trim_ascii().is_empty()) {
                self.allowance.meter.unreadable();
            }
            return Fate::Passes;
        };
        self.allowance.meter.chunk(&chunk);
        if self.first_output_at.is_none() && self.allowance.meter.text_seen() {
            self.first_output_at = Some(Instant::now());
        }
        self.seen.note(&chunk);
        if let Some(error) = &chunk.error {
            tracing::warn!(request_id = %self.allowance.request(), detail = error.detail, "upstream reported an error in its stream");
            return Fate::Error;
        }
        if chunk.is_usage_only() && !self.request.include_usage {
            Fate::Unasked
        } else {
            Fate::Passes
        }
    }

    /// The upstream's body ended without `[DONE]`: complete only if it had said all it wanted to.
    fn upstream_ended(&mut self) -> End {
        if self.seen.is_finished() {
            self.last = Some(self.scanner.rest());
            End::Complete
        } else {
            End::UpstreamCut("the upstream ended the stream early")
        }
    }

    /// Writes what has passed. A caller who reads nothing does not keep alive what has to end.
    async fn flush(&mut self) -> Option<End> {
        if self.out.is_empty() {
            return None;
        }
        let bytes = self.out.split().freeze();
        tokio::select! {
            biased;
            sent = reply::send(self.session, bytes, false, self.bounds.patience) => {
                sent.is_err().then_some(End::CallerGone)
            }
            why = self.leash.pulled() => {
                self.torn = true;
                Some(End::Pulled(why))
            }
        }
    }

    /// What the caller reads last.
    fn ending_bytes(&mut self, end: End) -> Bytes {
        match end {
            End::Complete => self.last.take().unwrap_or_default(),
            End::CallerGone => Bytes::new(),
            End::QuotaReached => {
                let usage = self.request.include_usage.then(|| self.allowance.counted());
                let mut bytes = BytesMut::from(&chunk::length_cut(&self.seen, usage.as_ref())[..]);
                bytes.extend_from_slice(chunk::DONE);
                bytes.freeze()
            }
            End::Pulled(Pulled::RightEnded) => {
                in_band("Your right to use this key has ended.", "access_revoked")
            }
            End::Pulled(Pulled::ShuttingDown) => incomplete("the gateway is shutting down"),
            End::Pulled(Pulled::TooLong) => incomplete("the call took longer than allowed"),
            End::UpstreamCut(why) => incomplete(why),
        }
    }
}

/// Since when nothing was heard from the upstream, and nothing sent to the caller.
#[derive(Debug, Clone, Copy)]
struct Quiet {
    upstream: Instant,
    caller: Instant,
}

impl From<Instant> for Quiet {
    fn from(now: Instant) -> Self {
        Self { upstream: now, caller: now }
    }
}

enum Woken {
    Bytes,
    Extended,
    Silence,
    End(End),
}

/// What a stream is charged: as reported, or counted and then never above what it held.
fn ending_of(
    status: Status,
    allowance: &mut Allowance<'_>,
    upstream: Arc<str>,
    first_output_at: Option<std::time::Instant>,
) -> Ending {
    if let Some(usage) = allowance.meter.usage() {
        return Ending::reported(status, usage, upstream, first_output_at);
    }
    let counted = allowance.counted();
    let bound = if status == Status::Complete { u64::MAX } else { allowance.reserved() };
    Ending::estimated(
        status,
        (counted.prompt, counted.completion),
        bound,
        upstream,
        first_output_at,
    )
}

fn incomplete(why: &str) -> Bytes {
    in_band(&format!("The answer is incomplete: {why}."), "upstream_cut")
}

fn in_band(message: &str, code: &'static str) -> Bytes {
    chunk::error_event(&ErrorBody {
        message: message.to_owned(),
        kind: "server_error",
        code: Some(code.into()),
        param: None,
    })
}

/// Reads what is left of a finished reply, so that its connection can serve another call.
async fn recycle(mut forwarded: Forwarded) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let drained = async { while let Ok(Some(_)) = forwarded.exchange.next().await {} };
    if tokio::time::timeout(PATIENCE, drained).await.is_ok() {
        forwarded.pool.release(forwarded.exchange).await;
    }
}

/// Sleeps until `when`, or for ever.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
