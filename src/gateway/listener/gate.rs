//! Validates request framing before hyper reads it, and enforces a deadline on every read and write.
//!
//! A head is given to the codec once it is whole and unambiguous (see [`crate::gateway::listener::framing`]), and
//! the one behind it only when its request is over. What cannot be served is answered from here, in the gateway's
//! own form, and so is a head that does not come.

use crate::gateway::Gateway;
use crate::gateway::call::body_memory::BodyPermit;
use crate::gateway::listener::alarm::Alarm;
use crate::gateway::listener::framing::{self, Chunks, Framing};
use crate::gateway::listener::pipe::Link;
use crate::gateway::response::refusal::Refusal;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::Stream;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use system::clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for one read; most heads need a single one.
const READ_BYTES: usize = 4096;
/// Bytes that most heads do not pass.
const USUAL_HEAD_BYTES: usize = 8 * 1024;
/// Bytes that are taken in behind a request under way.
const MAX_READ_AHEAD: usize = 16 * 1024;
/// The time and number of bytes for which the rest of a refused body is read.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// The socket.
pub(crate) struct Gate {
    stream: Stream,
    gateway: Arc<Gateway>,
    link: Arc<Link>,
    address: IpAddr,
    /// Bytes that were read and not passed on yet.
    bytes: BytesMut,
    /// So many of them may be given on.
    cleared: usize,
    step: Step,
    /// Bytes of the next head that were looked at.
    searched: usize,
    /// When the wait for the next head, or for the rest of it, began; unset while a request is under way.
    since: Option<Instant>,
    /// True once a byte of the next head has arrived.
    is_begun: bool,
    /// The memory of a large head.
    memory: Option<BodyPermit>,
    /// Nothing more is read as a request.
    is_closed: bool,
    reading: Alarm,
    writing: Alarm,
    /// The time since which the peer has read nothing.
    blocked: Option<Instant>,
    /// Something was written that has not been flushed.
    is_dirty: bool,
    ending: Ending,
}

/// Reads what has come on `stream` into `bytes`; 0 at the peer's end.
pub(crate) fn poll_receive(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    bytes: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut room = [MaybeUninit::uninit(); READ_BYTES];
    let mut read = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    bytes.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// The part of the request that is expected next.
enum Step {
    Head,
    /// So many bytes of a body.
    Length(u64),
    Chunks(Chunks),
}

impl Step {
    /// True if the whole body has come.
    fn is_over(&self) -> bool {
        match self {
            Self::Head => true,
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_ended(),
        }
    }
}

/// The progress of ending a connection.
enum Ending {
    /// This is still to be written.
    Words(BytesMut),
    Shutdown,
    /// The rest of what the peer sends is taken in: closing while bytes arrive resets the connection, and many
    /// clients then never read the answer.
    Lingering {
        until: Instant,
        left: usize,
    },
    Done,
}

impl Gate {
    /// The socket `stream`, of which `bytes` have been read. It was opened at `since` by `address`.
    pub fn new(
        (stream, bytes): (Stream, BytesMut),
        gateway: Arc<Gateway>,
        link: Arc<Link>,
        address: IpAddr,
        since: Instant,
    ) -> Self {
        Self {
            stream,
            gateway,
            link,
            address,
            bytes,
            cleared: 0,
            step: Step::Head,
            searched: 0,
            since: Some(since),
            is_begun: true,
            memory: None,
            is_closed: false,
            reading: Alarm::default(),
            writing: Alarm::default(),
            blocked: None,
            is_dirty: false,
            ending: Ending::Shutdown,
        }
    }

    /// Ends a connection whose codec has ended without doing so.
    pub async fn close(&mut self) {
        let _ = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await;
    }

    /// Reads what has come; 0 at the peer's end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_receive(&mut self.stream, cx, &mut self.bytes)
    }

    /// Waits for a head; false when there will be none.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.link.is_busy() {
            self.watch(cx);
            return Poll::Pending;
        }
        loop {
            match self.whole_head() {
                Ok(true) => return Poll::Ready(true),
                Ok(false) => {}
                Err(refusal) => return self.refuse(refusal),
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return self.poll_patience(cx),
            }
        }
    }

    /// Checks whether the caller of the request under way has disconnected. The codec itself would keep a buffer
    /// for each such check.
    fn watch(&mut self, cx: &mut Context<'_>) {
        let is_due = self.step.is_over() && self.cleared == 0 && self.link.is_busy();
        if is_due && self.poll_end(cx).is_ready() {
            self.link.lose_caller();
        }
    }

    /// Ready once the caller of the current request has gone. Bytes that it sends after the request are buffered.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.bytes.len() < MAX_READ_AHEAD {
            match ready!(self.poll_more(cx)) {
                Ok(1..) => {}
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// True if a whole head has arrived; it has been validated then.
    fn whole_head(&mut self) -> Result<bool, Refusal> {
        // RFC 9112 section 2.2: older clients leave an empty line behind a body.
        while self.searched == 0 && self.bytes.starts_with(b"\r\n") {
            self.bytes.advance(2);
        }
        let limit = self.gateway.listener.header_bytes;
        if let Some((length, framing)) = framing::head(&self.bytes, self.searched, limit)? {
            self.cleared = length;
            self.step = match framing {
                Framing::Length(body) => {
                    // The part of the body that has arrived goes on with the head, in the same buffer.
                    let come = (self.bytes.len() - length) as u64;
                    let part = come.min(body);
                    self.cleared += usize::try_from(part).unwrap_or_default();
                    Step::Length(body - part)
                }
                Framing::Chunked => Step::Chunks(Chunks::default()),
            };
            (self.searched, self.since, self.is_begun) = (0, None, false);
            self.memory = None;
            self.link.begin();
            return Ok(true);
        }
        // A lone CR may be the first half of an empty line.
        self.searched = if &self.bytes[..] == b"\r" { 0 } else { self.bytes.len() };
        // A usual head is part of what a connection costs; a large one is counted as bodies are.
        if self.bytes.len() > USUAL_HEAD_BYTES {
            let (body_memory, address) = (&self.gateway.body_memory, self.address);
            let memory = self.memory.get_or_insert_with(|| body_memory.empty_permit(None, address));
            memory.reach(self.bytes.capacity())?;
        }
        Ok(false)
    }

    /// How long a head may be waited for. When the gateway refuses new calls, a connection on which nothing has
    /// come since its last request is closed: no caller loses anything with it.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let now = clock::instant();
        let bounds = &self.gateway.listener;
        if !self.is_begun && !self.bytes.is_empty() {
            (self.is_begun, self.since) = (true, Some(now));
        }
        let since = *self.since.get_or_insert(now);
        if self.is_begun {
            ready!(self.reading.poll(cx, since + bounds.header_timeout));
            return self.refuse(Refusal::SlowHead(bounds.header_timeout));
        }
        if self.gateway.shutting_down.is_cancelled() {
            return Poll::Ready(false);
        }
        self.reading.poll(cx, since + bounds.keepalive).map(|()| false)
    }

    fn refuse(&mut self, refusal: Refusal) -> Poll<bool> {
        self.ending = Ending::Words(self.gateway.refusal_of_head(refusal));
        // It may still be sending.
        self.step = Step::Length(u64::MAX);
        Poll::Ready(false)
    }

    /// Gives the body on, as far as it goes. Ready with nothing at the peer's end.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Step::Length(left) = &mut self.step
            && self.bytes.is_empty()
            && *left >= buf.remaining() as u64
        {
            // Too long for what there is room for: nothing behind it can come with it.
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            *left -= (buf.filled().len() - before) as u64;
            return Poll::Ready(Ok(()));
        }
        if self.bytes.is_empty() && ready!(self.poll_more(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        self.cleared = match &mut self.step {
            Step::Head => 0,
            Step::Length(left) => {
                let part = usize::try_from(*left).unwrap_or(usize::MAX).min(self.bytes.len());
                *left -= part as u64;
                part
            }
            Step::Chunks(chunks) => match chunks.take(&self.bytes) {
                Ok(taken) => taken,
                Err(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            },
        };
        self.give(buf);
        Poll::Ready(Ok(()))
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let part = self.cleared.min(buf.remaining());
        buf.put_slice(&self.bytes[..part]);
        self.bytes.advance(part);
        self.cleared -= part;
        if self.bytes.is_empty() {
            // An idle connection has no buffer.
            self.bytes = BytesMut::new();
        }
    }

    /// Bounds the time in which the peer reads nothing.
    fn poll_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        self.watch(cx);
        let since = *self.blocked.get_or_insert_with(clock::instant);
        ready!(self.writing.poll(cx, since + self.gateway.listener.write_timeout));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.cleared > 0 {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            if self.is_closed {
                return Poll::Ready(Ok(()));
            }
            if matches!(self.step, Step::Head) {
                if !ready!(self.poll_head(cx)) {
                    self.is_closed = true;
                }
            } else if self.step.is_over() {
                self.step = Step::Head;
            } else {
                return self.poll_body(cx, buf);
            }
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_dirty = true;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_dirty = true;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The codec flushes once all that it has is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if self.is_dirty && matches!(flushed, Poll::Ready(Ok(()))) {
            self.is_dirty = false;
            self.link.note_flush();
        }
        self.watch(cx);
        self.poll_written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.ending {
                Ending::Words(words) if words.is_empty() => this.ending = Ending::Shutdown,
                Ending::Words(words) => {
                    let written = Pin::new(&mut this.stream).poll_write(cx, words);
                    if let Poll::Ready(Ok(written)) = written {
                        words.advance(written);
                    }
                    ready!(this.poll_written(cx, written))?;
                }
                Ending::Shutdown => {
                    let flushed = Pin::new(&mut this.stream).poll_flush(cx);
                    ready!(this.poll_written(cx, flushed))?;
                    let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
                    ready!(this.poll_written(cx, shut))?;
                    this.ending = if this.step.is_over() {
                        Ending::Done
                    } else {
                        Ending::Lingering {
                            until: clock::instant() + LINGER_TIMEOUT,
                            left: LINGER_BYTES,
                        }
                    };
                }
                Ending::Lingering { until, left } => {
                    let until = *until;
                    this.bytes.clear();
                    match poll_receive(&mut this.stream, cx, &mut this.bytes) {
                        Poll::Ready(Ok(read @ 1..)) if read < *left => *left -= read,
                        Poll::Ready(_) => this.ending = Ending::Done,
                        Poll::Pending => {
                            ready!(this.reading.poll(cx, until));
                            this.ending = Ending::Done;
                        }
                    }
                }
                Ending::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
