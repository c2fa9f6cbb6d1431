//! Observes the traffic of a connection beneath the codec: whether the request has been written, and whether
//! bytes came back.

use pingora_core::protocols::Stream;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The socket under a codec.
pub(super) struct Tap {
    stream: Stream,
    traffic: Arc<Traffic>,
    /// Bytes were written that have not been flushed.
    is_dirty: bool,
}

/// Traffic of a connection since its latest request began.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The whole request has been written to the socket.
    sent: AtomicBool,
    received: AtomicBool,
    /// Reads that brought bytes, since they were last taken.
    reads: AtomicU32,
    interim: AtomicU32,
}

impl Traffic {
    /// Resets everything for the next request.
    pub fn begin(&self) {
        self.sent.store(false, Ordering::Relaxed);
        self.received.store(false, Ordering::Relaxed);
        self.reads.store(0, Ordering::Relaxed);
        self.interim.store(0, Ordering::Relaxed);
    }

    /// True if the request has been written.
    pub fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// True if a byte has come back.
    pub fn has_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Number of reads that brought bytes since the last call of this.
    pub fn take_reads(&self) -> u32 {
        match self.reads.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.reads.swap(0, Ordering::Relaxed),
        }
    }

    /// Counts one interim reply (1xx).
    pub fn count_interim(&self) {
        self.interim.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of interim replies.
    pub fn interim(&self) -> u32 {
        self.interim.load(Ordering::Relaxed)
    }
}

impl Tap {
    /// Observes `stream` and records into `traffic`.
    pub fn new(stream: Stream, traffic: Arc<Traffic>) -> Self {
        Self { stream, traffic, is_dirty: false }
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.traffic.received.store(true, Ordering::Relaxed);
            self.traffic.reads.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_dirty = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_dirty = true;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The codec flushes once all that it has is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if self.is_dirty && matches!(flushed, Poll::Ready(Ok(()))) {
            self.is_dirty = false;
            self.traffic.sent.store(true, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
