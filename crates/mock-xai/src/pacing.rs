//! Sends an answer's events at their pace, breaks off where a fault demands it, and records what was sent.

use crate::corrupt;
use crate::fault::{Break, Fault, Faults};
use crate::request_log::OpenEntry;
use crate::settings::Overrides;
use crate::socket::SocketControl;
use bytes::Bytes;
use futures_util::Stream;
use hyper::body::Frame;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use system::clock;

/// An answer as a sequence of events.
pub trait EventSource: Send {
    /// True if the next event carries a token, and so must wait until it is due.
    fn token_is_next(&self) -> bool;

    /// Appends the next event to `out` and returns its tokens.
    fn next(&mut self, out: &mut Vec<u8>) -> Emitted;

    fn is_over(&self) -> bool;

    /// The event that reports an error within the stream.
    fn error(&self) -> String;
}

/// The tokens that one event carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emitted {
    /// Visible tokens in the event.
    pub tokens: u64,
}

/// The connection is to be closed in the middle of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the simulator closed the connection, as requested by a fault")]
pub struct ConnectionCut;

/// Sends the events of one answer. They are generated at their pace, read or not.
pub struct PacedStream {
    events: Box<dyn EventSource>,
    pace: Pace,
    faults: Faults,
    break_after: Option<(u64, Break)>,
    coalesce: usize,
    open_entry: OpenEntry,
    control: SocketControl,
    /// Events written so far.
    written: u64,
    /// EventSource of them that carried a token.
    tokens: u64,
    /// Bytes not yet handed over, and the tokens that go with them.
    pieces: VecDeque<(Bytes, u64)>,
    ending: Option<Ending>,
}

/// The way in which the events end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    Broken(Break),
}

/// The times at which tokens are due.
#[derive(Debug, Clone, Copy)]
struct Pace {
    began: Instant,
    first: Duration,
    gap: Duration,
}

impl Pace {
    /// The time at which token `number`, counted from 0, is due; `None` if at once.
    fn due(&self, number: u64) -> Option<Instant> {
        let tokens = u32::try_from(number).unwrap_or(u32::MAX);
        let wait = self.first + self.gap.saturating_mul(tokens);
        (!wait.is_zero()).then(|| self.began + wait)
    }
}

/// Bytes that are generated ahead of a client that does not read.
const OUTPUT_BUFFER_BYTES: usize = 4 << 20;

/// Time for the written bytes to leave before the connection is broken.
const FLUSH_BEFORE_CUT_INTERVAL: Duration = Duration::from_millis(10);

impl PacedStream {
    pub fn new(
        events: Box<dyn EventSource>,
        overrides: &Overrides,
        coalesce: usize,
        open_entry: OpenEntry,
        control: SocketControl,
    ) -> Self {
        Self {
            events,
            pace: Pace {
                began: clock::instant(),
                first: overrides.first_token,
                gap: overrides.token_gap,
            },
            break_after: overrides.faults.break_after(),
            faults: overrides.faults.clone(),
            coalesce,
            open_entry,
            control,
            written: 0,
            tokens: 0,
            pieces: VecDeque::new(),
            ending: None,
        }
    }

    /// The frames of the body.
    pub fn into_frames(self) -> impl Stream<Item = Result<Frame<Bytes>, ConnectionCut>> + Send {
        futures_util::stream::unfold(self, |mut paced| async {
            let frame = paced.next_frame().await?;
            Some((frame.map(Frame::data), paced))
        })
    }

    async fn next_frame(&mut self) -> Option<Result<Bytes, ConnectionCut>> {
        loop {
            if let Some((piece, tokens)) = self.pieces.pop_front() {
                return Some(Ok(self.hand_over(piece, tokens).await));
            }
            if let Some(ending) = self.ending {
                return self.end(ending).await;
            }
            self.wait().await;
            self.fill();
        }
    }

    /// A client may close right after the last event, so the open_entry ends with it, not after it.
    async fn hand_over(&mut self, piece: Bytes, tokens: u64) -> Bytes {
        if self.faults.has(Fault::Drip) || self.faults.has(Fault::Split) {
            // Gives the connection a turn to flush, so that pieces do not meet again.
            tokio::task::yield_now().await;
        }
        self.open_entry.record_sent(tokens);
        if self.pieces.is_empty() && self.ending == Some(Ending::Whole) {
            self.open_entry.finish();
        }
        piece
    }

    /// Counts what was generated and never read: generation keeps its pace if the client does not read, until
    /// the output buffer is full. Without a pace an answer is generated as it is read.
    fn count_unread(&mut self) {
        let waiting: u64 = self.pieces.drain(..).map(|(_, tokens)| tokens).sum();
        self.open_entry.record_generated(waiting);
        if self.pace.gap.is_zero() {
            return;
        }
        let mut unread = Vec::new();
        while self.ending.is_none() && unread.len() < OUTPUT_BUFFER_BYTES && !self.next_is_early() {
            if self.breaks_here(&mut unread) {
                return;
            }
            self.tokens += u64::from(self.events.token_is_next());
            self.open_entry.record_generated(self.events.next(&mut unread).tokens);
            self.written += 1;
            if self.events.is_over() {
                self.ending = Some(Ending::Whole);
            }
        }
    }

    async fn end(&mut self, ending: Ending) -> Option<Result<Bytes, ConnectionCut>> {
        let broken = match ending {
            Ending::Whole => {
                self.open_entry.finish();
                self.control.send_trailers(self.faults.trailers());
                return None;
            }
            Ending::Broken(Break::Stall) => return std::future::pending().await,
            Ending::Broken(broken) => broken,
        };
        self.open_entry.abort();
        if matches!(broken, Break::Close | Break::ErrorEvent) {
            return None;
        }
        tokio::time::sleep(FLUSH_BEFORE_CUT_INTERVAL).await;
        if broken == Break::Reset {
            self.control.reset();
        }
        Some(Err(ConnectionCut))
    }

    /// Until the next token is due; other events wait for nothing.
    async fn wait(&mut self) {
        if self.events.token_is_next()
            && let Some(due) = self.pace.due(self.tokens)
        {
            tokio::time::sleep_until(due.into()).await;
        }
    }

    fn next_is_early(&self) -> bool {
        self.events.token_is_next()
            && self.pace.due(self.tokens).is_some_and(|due| due > clock::instant())
    }

    /// Writes the events that are due now, as many as share a write.
    fn fill(&mut self) {
        let mut frame = Vec::new();
        let mut tokens = 0;
        loop {
            if self.breaks_here(&mut frame) {
                break;
            }
            let (start, is_token) = (frame.len(), self.events.token_is_next());
            tokens += self.events.next(&mut frame).tokens;
            corrupt::event(&mut frame, start, self.written, &self.faults);
            self.written += 1;
            self.tokens += u64::from(is_token);
            if self.events.is_over() {
                self.ending = Some(Ending::Whole);
                break;
            }
            if frame.len() >= self.coalesce || self.next_is_early() {
                break;
            }
        }
        let pieces = corrupt::pieces(frame, &self.faults);
        let last = pieces.len().saturating_sub(1);
        let counted = pieces
            .into_iter()
            .enumerate()
            .map(|(i, piece)| (piece, if i == last { tokens } else { 0 }));
        self.pieces.extend(counted);
    }

    fn breaks_here(&mut self, frame: &mut Vec<u8>) -> bool {
        let Some((_, kind)) = self.break_after.filter(|(after, _)| self.written >= *after) else {
            return false;
        };
        if kind == Break::ErrorEvent {
            frame.extend_from_slice(self.events.error().as_bytes());
        }
        self.ending = Some(Ending::Broken(kind));
        true
    }
}

impl Drop for PacedStream {
    /// The client has disconnected, or the last event was sent.
    fn drop(&mut self) {
        self.count_unread();
    }
}

/// A JSON body as two "events", its frames, so that the same faults can break it.
#[derive(Debug)]
pub struct BatchedFrames {
    frames: VecDeque<Vec<u8>>,
    tokens: u64,
}

impl BatchedFrames {
    pub fn new(body: &[u8], tokens: u64) -> Self {
        let (first, second) = body.split_at(body.len() / 2);
        Self { frames: VecDeque::from([first.to_vec(), second.to_vec()]), tokens }
    }
}

impl EventSource for BatchedFrames {
    fn token_is_next(&self) -> bool {
        false
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Emitted {
        out.extend(self.frames.pop_front().unwrap_or_default());
        Emitted { tokens: if self.frames.is_empty() { self.tokens } else { 0 } }
    }

    fn is_over(&self) -> bool {
        self.frames.is_empty()
    }

    fn error(&self) -> String {
        String::new()
    }
}
