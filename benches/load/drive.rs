//! Drives one address with requests: as many as it carries, or at a fixed rate.
//!
//! One thread, one epoll, no timers of its own but the wait's time-out (nanoseconds, by
//! `epoll_pwait2`), so that it costs a few microseconds a request and measures little of itself.
//! At a fixed rate each request has a time at which it is due, and its delay counts from there,
//! sent late or not: a server that stalls cannot hide the requests it kept waiting. Every request
//! that is sent is waited for, so that its cost is counted and nothing hangs up by accident.

use crate::reply::Reply;
use anyhow::{Context, bail};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From when a request was due to the first event of its reply; same order as `whole`.
    pub first: Vec<Duration>,
    /// From when a request was due to the end of its reply.
    pub whole: Vec<Duration>,
    /// All replies that ended, counted or not.
    pub answered: u64,
    pub failed: u64,
    /// What the first failed request got.
    pub first_failure: Option<String>,
    pub took: Duration,
}

/// A request in flight on its own connection.
#[derive(Debug)]
struct Slot {
    stream: TcpStream,
    reply: Reply,
    due: Option<Instant>,
    first: Option<Instant>,
}

/// The connections to one address, and the requests sent on them in turn.
pub struct Driver<'a> {
    addr: SocketAddr,
    requests: &'a [Vec<u8>],
    next: usize,
    /// A reply without `[DONE]` is a failed one.
    streams: bool,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    idle: Vec<usize>,
    buffer: Vec<u8>,
    events: Vec<Event>,
}

impl<'a> Driver<'a> {
    pub fn new(addr: SocketAddr, requests: &'a [Vec<u8>], streams: bool) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (slots, idle, events) = (Vec::new(), Vec::new(), Vec::with_capacity(256));
        let buffer = vec![0; 64 * 1024];
        Ok(Self { addr, requests, next: 0, streams, epoll, slots, idle, buffer, events })
    }

    /// Keeps `connections` requests in flight for `warm_up` and then `time`; counts those sent in
    /// the latter.
    pub fn saturate(
        &mut self,
        connections: usize,
        warm_up: Duration,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let counted_from = Instant::now() + warm_up;
        let until = counted_from + time;
        for _ in 0..connections {
            self.send(Instant::now())?;
        }
        while Instant::now() < until {
            for _ in 0..self.wait(until, counted_from, &mut outcome)? {
                self.send(Instant::now())?;
            }
        }
        self.drain(counted_from, &mut outcome)?;
        outcome.took = counted_from.elapsed();
        Ok(outcome)
    }

    /// Sends `rate` requests a second for `warm_up` and then `time`, and waits for what is still
    /// on its way; counts those due in `time`. Half-way through it tells `at_half` how many are open.
    pub fn pace(
        &mut self,
        rate: u32,
        warm_up: Duration,
        time: Duration,
        at_half: impl FnOnce(usize),
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let (began, gap) = (Instant::now(), Duration::from_secs(1) / rate);
        let (counted_from, until) = (began + warm_up, began + warm_up + time);
        let half = counted_from + time / 2;
        let mut at_half = Some(at_half);
        let mut next = began;
        while next < until {
            while next <= Instant::now() && next < until {
                self.send(next)?;
                next += gap;
            }
            if Instant::now() >= half
                && let Some(look) = at_half.take()
            {
                look(self.slots.len() - self.idle.len());
            }
            self.wait(next.min(until), counted_from, &mut outcome)?;
        }
        self.drain(counted_from, &mut outcome)?;
        outcome.took = time;
        Ok(outcome)
    }

    /// Begins `count` streams and returns the number of those whose first event has arrived.
    /// Dropping the driver then hangs up on all of them.
    pub fn begin(&mut self, count: usize) -> anyhow::Result<usize> {
        let mut outcome = Outcome::default();
        let until = Instant::now() + Duration::from_secs(10);
        for _ in 0..count {
            self.send(Instant::now())?;
        }
        while self.begun() < count && outcome.failed == 0 && Instant::now() < until {
            self.wait(until, until, &mut outcome)?;
        }
        Ok(self.begun())
    }

    fn begun(&self) -> usize {
        self.slots.iter().filter(|slot| slot.first.is_some()).count()
    }

    /// Waits for the replies still on their way; what takes longer than this has failed.
    fn drain(&mut self, counted_from: Instant, outcome: &mut Outcome) -> anyhow::Result<()> {
        let patience = Instant::now() + Duration::from_secs(30);
        while self.idle.len() < self.slots.len() && Instant::now() < patience {
            self.wait(patience, counted_from, outcome)?;
        }
        let open = self.slots.len() - self.idle.len();
        if open > 0 {
            bail!("{open} replies from {} did not end", self.addr);
        }
        Ok(())
    }

    /// Sends one request, on an idle connection if there is one.
    fn send(&mut self, due: Instant) -> anyhow::Result<()> {
        let at = match self.idle.pop() {
            Some(at) => at,
            None => self.connect()?,
        };
        let slot = &mut self.slots[at];
        (slot.due, slot.first) = (Some(due), None);
        slot.reply.clear();
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        slot.stream.write_all(request).with_context(|| format!("sending to {}", self.addr))
    }

    fn connect(&mut self) -> anyhow::Result<usize> {
        let slot = Slot { stream: self.dial()?, reply: Reply::default(), due: None, first: None };
        let at = self.slots.len();
        self.watch(&slot.stream, at)?;
        self.slots.push(slot);
        Ok(at)
    }

    fn dial(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.addr)
            .with_context(|| format!("cannot connect to {}", self.addr))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn watch(&self, stream: &TcpStream, at: usize) -> anyhow::Result<()> {
        Ok(epoll::add(&self.epoll, stream, EventData::new_u64(at as u64), EventFlags::IN)?)
    }

    /// Waits for replies until `until` at most; returns how many ended.
    fn wait(
        &mut self,
        until: Instant,
        counted_from: Instant,
        outcome: &mut Outcome,
    ) -> anyhow::Result<usize> {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("a wait of years")?;
        let mut events = std::mem::take(&mut self.events);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&left))?;
        let mut ended = 0;
        for event in events.drain(..) {
            let at = usize::try_from(event.data.u64())?;
            ended += usize::from(self.read(at, counted_from, outcome)?);
        }
        self.events = events;
        Ok(ended)
    }

    /// Takes what arrived on one connection; true when its reply ended.
    fn read(
        &mut self,
        at: usize,
        counted_from: Instant,
        outcome: &mut Outcome,
    ) -> anyhow::Result<bool> {
        let slot = &mut self.slots[at];
        let got = match slot.stream.read(&mut self.buffer) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) | Ok(0) => return self.lost(at, outcome),
            Ok(got) => got,
        };
        slot.reply.feed(&self.buffer[..got]);
        let now = Instant::now();
        if slot.reply.begun {
            slot.first.get_or_insert(now);
        }
        if !slot.reply.ended {
            return Ok(false);
        }
        let good = slot.reply.ok() && (slot.reply.finished_event || !self.streams);
        if let Some(due) = slot.due.take() {
            outcome.count(due, slot.first.unwrap_or(now), now, counted_from);
        }
        if !good {
            outcome.fail(slot.reply.opening());
        }
        self.idle.push(at);
        Ok(true)
    }

    /// The server closed a connection: a failure if a reply was under way.
    fn lost(&mut self, at: usize, outcome: &mut Outcome) -> anyhow::Result<bool> {
        let stream = self.dial()?;
        self.watch(&stream, at)?;
        let slot = &mut self.slots[at];
        slot.stream = stream;
        let busy = slot.due.take().is_some();
        if busy {
            outcome.fail(format!("the connection was closed after: {}", slot.reply.opening()));
            self.idle.push(at);
        }
        Ok(busy)
    }
}

impl Outcome {
    fn count(&mut self, due: Instant, first: Instant, end: Instant, counted_from: Instant) {
        self.answered += 1;
        if due >= counted_from {
            self.first.push(first - due);
            self.whole.push(end - due);
        }
    }

    fn fail(&mut self, what: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(what);
    }

    /// Requests answered each second.
    pub fn rate(&self) -> f64 {
        self.whole.len() as f64 / self.took.as_secs_f64()
    }
}
