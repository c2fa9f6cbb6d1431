//! Drains the replies of calls whose caller has disconnected.
//!
//! The cost of such a call is known only from the rest of its reply: hidden reasoning is in no delta, and a
//! non-streaming reply reports usage at its end. So a task that outlives the connection, but not the process,
//! keeps reading. Meanwhile the call keeps its reservation and its slot at the upstream. It is charged the
//! reported usage, or its full reservation if none arrives in time: disconnecting is never cheaper.

use super::allowance::{Allowance, Verdict};
use super::attempt::Blame;
use super::buffers::{Buffers, Held};
use super::forward::{Forwarded, Pending, Stop, is_event_stream};
use super::leash::Pulled;
use super::reserve::Reservation;
use super::settle::Ending;
use super::whole;
use crate::account::charge::Status;
use crate::account::plan::RequestPolicy;
use crate::clock;
use crate::openai::error::UpstreamError;
use crate::openai::follow::{self, Follow};
use crate::openai::request::Request;
use crate::openai::sse::Scanner;
use crate::openai::surface::{Output, Surface};
use crate::upstream::catalog::{Model, OnHangUp, Upstream};
use bytes::BytesMut;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The parts of a request that matter once it has been sent.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of the request of its own")]
pub struct Asked {
    pub surface: Surface,
    pub include_usage: bool,
    pub stream: bool,
    pub choices: u64,
    /// Whether the upstream bills more than its stream shows: a reply that it keeps, and makes to its end
    /// whatever becomes of the call, the context of one that the call goes on from, or what its own tools
    /// read and write.
    pub bills_unseen: bool,
    pub is_deferred: bool,
}

impl Asked {
    /// What `request` asks for once `policy` has taken out what the caller's plan does not include.
    #[must_use]
    pub fn of(request: &Request<'_>, policy: &RequestPolicy) -> Self {
        let ties = &request.ties;
        let has_tools = request.runs_server_tools(policy);
        Self {
            surface: request.surface,
            include_usage: request.include_usage,
            stream: request.stream,
            choices: request.n,
            bills_unseen: ties.is_kept || ties.previous.is_some() || has_tools,
            is_deferred: ties.is_deferred,
        }
    }

    /// Whether the reply is read on when nobody waits for it any more.
    #[must_use]
    pub fn is_read_on(&self, model: &Model, upstream: &Upstream, by: Stop) -> bool {
        let can_be = by != Stop::Pulled(Pulled::ShuttingDown) && !self.surface.is_free();
        let can_be_stopped = self.stream && !self.bills_unseen;
        can_be && upstream.on_hang_up(model, can_be_stopped) == OnHangUp::Drain
    }
}

/// What bounds reading on.
#[derive(Clone)]
pub struct Bounds {
    /// How long it may take.
    pub time: Duration,
    /// Cancelled when the process is about to end.
    pub hard_stop: CancellationToken,
    /// Largest event of a stream, in bytes.
    pub event_bytes: usize,
    /// Largest reply in one piece, in bytes.
    pub reply_bytes: usize,
    /// Tokens that a stream reserves at once.
    pub slice_tokens: u64,
    pub buffers: Buffers,
    /// Where the caller was.
    pub address: IpAddr,
}

/// A call to be read on.
pub struct Drain {
    pub asked: Asked,
    pub status: Status,
    pub upstream: Arc<str>,
    pub bounds: Bounds,
}

/// What is still to be read of a reply in one piece, or of one whose head has not come.
pub enum Unread {
    /// The request has been sent; `Held` is for its body.
    Head(Pending, Held),
    /// A part of the body has come.
    Body(Box<Forwarded>, BytesMut, Held),
}

impl Unread {
    /// The upstream that is answering.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        match self {
            Self::Head(pending, _) => pending.pool.upstream(),
            Self::Body(forwarded, _, _) => forwarded.pool.upstream(),
        }
    }
}

/// A stream, as far as it was heard.
pub struct StreamRest {
    pub forwarded: Forwarded,
    pub allowance: Allowance<'static>,
    pub scanner: Scanner,
    pub follow: Box<dyn Follow>,
    /// When the caller got the first output.
    pub first_output_at: Option<std::time::Instant>,
}

/// What is done with the ending of a drained stream before it is settled.
pub type OnEnding = Box<dyn FnOnce(&Ending) + Send>;

/// How far a stream was read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// To its end: what its usage says is all that was used.
    Complete,
    Cut,
}

impl Drain {
    /// Reads on and settles, in a task of its own.
    pub fn spawn(self, reservation: Reservation, unread: Unread) {
        reservation.tasks().spawn(async move {
            let until = Instant::from_std(clock::instant() + self.bounds.time);
            match unread {
                Unread::Head(pending, sent) => {
                    self.begin(reservation, pending, sent, until).await;
                }
                Unread::Body(forwarded, body, room) => {
                    self.body(reservation, *forwarded, (body, room), until).await;
                }
            }
        });
    }

    /// Reads a stream on and settles, in a task of its own.
    pub fn spawn_stream(self, rest: StreamRest, on_ending: OnEnding) {
        rest.allowance.reservation().tasks().spawn(async move {
            let until = Instant::from_std(clock::instant() + self.bounds.time);
            self.stream(rest, on_ending, until).await;
        });
    }

    async fn begin(self, reservation: Reservation, pending: Pending, sent: Held, until: Instant) {
        let Pending { sending, pool } = pending;
        let exchange = match self.within(until, sending).await {
            Some(Ok(exchange)) => exchange,
            // As for a caller that stayed: no upstream has answered.
            Some(Err(_)) => return reservation.settle(self.failed(false)).await,
            None => return self.settle_unreported(reservation).await,
        };
        drop(sent);
        let upstream = Arc::clone(&self.upstream);
        let forwarded = Forwarded { exchange, pool, upstream, head_at: clock::instant() };
        if self.asked.stream && is_event_stream(&forwarded.exchange) {
            let rest = StreamRest {
                forwarded,
                allowance: Allowance::without_request(reservation, self.bounds.slice_tokens),
                scanner: Scanner::new(self.bounds.event_bytes),
                follow: self.asked.surface.follow(self.asked.include_usage),
                first_output_at: None,
            };
            return self.stream(rest, Box::new(|_| {}), until).await;
        }
        let Bounds { buffers, address, .. } = &self.bounds;
        let room = buffers.hold(Some(reservation.caller.user), *address);
        self.body(reservation, forwarded, (BytesMut::new(), room), until).await;
    }

    async fn body(
        self,
        reservation: Reservation,
        mut forwarded: Forwarded,
        (body, mut room): (BytesMut, Held),
        until: Instant,
    ) {
        let read =
            whole::read_on(&mut forwarded.exchange, body, self.bounds.reply_bytes, &mut room);
        let Some(Some(body)) = self.within(until, read).await else {
            return self.settle_unreported(reservation).await;
        };
        if self.asked.is_deferred {
            // Nobody knows the id by which it could be fetched.
            let upstream = Arc::clone(&self.upstream);
            let ending = whole::ending_of_deferred(self.status, &reservation, upstream, None);
            return reservation.settle(ending).await;
        }
        let Forwarded { exchange, pool, upstream, head_at } = forwarded;
        let status = exchange.status();
        let ending = if status.is_success() && UpstreamError::in_reply(&body).is_none() {
            let prompt = || reservation.prompt;
            let replied = (&body[..], upstream, head_at);
            let ending = whole::ending_of(&self.asked, &reservation, replied, prompt);
            Ending { status: self.status, first_byte_at: None, ..ending }
        } else {
            let error = UpstreamError::read(status.as_u16(), None, &body);
            let is_callers = !status.is_success() && Blame::of(error.fault, None) == Blame::Caller;
            // What the upstream bills is charged, also where its reply says that it failed.
            match whole::reported_in(self.asked.surface, &body) {
                Some(usage) => Ending::reported(self.status, usage, upstream, None),
                None => self.failed(is_callers),
            }
        };
        pool.release(exchange);
        reservation.settle(ending).await;
    }

    async fn stream(self, mut rest: StreamRest, on_ending: OnEnding, until: Instant) {
        let heard = self.within(until, rest.read_on()).await.unwrap_or(Heard::Cut);
        let ending = self.ending_of_stream(&mut rest, heard);
        on_ending(&ending);
        let StreamRest { forwarded, allowance, .. } = rest;
        if heard == Heard::Cut {
            // The upstream is not needed any more, whatever settling has to wait for.
            drop(forwarded);
        }
        allowance.into_reservation().settle(ending).await;
    }

    fn ending_of_stream(&self, rest: &mut StreamRest, heard: Heard) -> Ending {
        let (first, upstream) = (rest.first_output_at, Arc::clone(&self.upstream));
        let usage = rest.allowance.reported();
        let reserved = rest.allowance.reserved();
        // Some upstreams report what was used so far: without the end it is not all.
        let is_all = heard == Heard::Complete;
        if let Some(usage) = usage.filter(|usage| is_all || usage.tokens.total() >= reserved) {
            return Ending::reported(self.status, usage, upstream, first);
        }
        let counted = rest.allowance.counted();
        let (output, bound) =
            if is_all { (counted.completion, u64::MAX) } else { (u64::MAX, reserved) };
        Ending::estimated(self.status, (counted.prompt, output), bound, upstream, first)
    }

    /// Charges all that was reserved.
    async fn settle_unreported(self, reservation: Reservation) {
        let (held, upstream) = (reservation.reserved, Arc::clone(&self.upstream));
        let is_image = self.asked.surface.output() == Output::Images;
        let prompt = if is_image { 0 } else { reservation.prompt };
        let ending = Ending::estimated(self.status, (prompt, held), held, upstream, None);
        let price = self.asked.choices.saturating_mul(reservation.model.image_ticks);
        let cost_ticks = i64::try_from(price).ok().filter(|_| is_image);
        reservation.settle(Ending { cost_ticks, ..ending }).await;
    }

    fn failed(&self, counted: bool) -> Ending {
        Ending { status: self.status, ..Ending::failed(Arc::clone(&self.upstream), counted) }
    }

    /// `None` when the time is over before it is done.
    async fn within<T>(&self, until: Instant, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = tokio::time::sleep_until(until) => None,
            () = self.bounds.hard_stop.cancelled() => None,
        }
    }
}

impl StreamRest {
    async fn read_on(&mut self) -> Heard {
        loop {
            loop {
                let Ok(next) = self.scanner.next_event() else { return Heard::Cut };
                let Some(event) = next else { break };
                match self.follow.event(&event, &mut self.allowance.meter) {
                    follow::Heard::Passes | follow::Heard::Unasked => {}
                    follow::Heard::Last | follow::Heard::Failed(_) => return Heard::Complete,
                    follow::Heard::Error(_) => return Heard::Cut,
                }
            }
            // What a stream reserves by slices it goes on reserving: no limit is passed unseen.
            while !self.allowance.covers() {
                if self.allowance.changed(true).await == Verdict::Exhausted {
                    return Heard::Cut;
                }
            }
            match self.forwarded.exchange.next().await {
                Ok(Some(bytes)) => self.scanner.push(&bytes),
                Ok(None) if self.follow.is_finished() => return Heard::Complete,
                Ok(None) | Err(_) => return Heard::Cut,
            }
        }
    }
}
