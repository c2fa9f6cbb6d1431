//! A TCP connection that a reply can make misbehave below HTTP: a reset, a flood of interim
//! replies, trailers without end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
const TRAILER: &[u8] = b"x-trailer: one more\r\n";

/// The end of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An ordinary socket, unless its [`SocketControl`] makes it misbehave.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    control: SocketControl,
    /// The simulator's own bytes, written before anything else.
    own: Vec<u8>,
}

/// Controls the socket below a reply.
#[derive(Debug, Clone, Default)]
pub struct SocketControl(Arc<SocketFlags>);

#[derive(Debug, Default)]
struct SocketFlags {
    reset: AtomicBool,
    interim: AtomicU64,
    trailers: AtomicU64,
}

impl SocketControl {
    /// The socket ends by a TCP reset once it is dropped.
    pub fn reset(&self) {
        self.0.reset.store(true, Ordering::Relaxed);
    }

    /// Sends `count` interim replies before the reply.
    pub fn send_interim(&self, count: u64) {
        self.0.interim.store(count, Ordering::Relaxed);
    }

    /// Sends `count` trailers after the last chunk of the body.
    pub fn send_trailers(&self, count: u64) {
        self.0.trailers.store(count, Ordering::Relaxed);
    }
}

/// Up to 16 KiB of repeated lines, at most `left` of them.
fn take_lines(left: &AtomicU64, line: &[u8]) -> Option<Vec<u8>> {
    let many = (16 * 1024 / line.len()) as u64;
    let count = left.load(Ordering::Relaxed).min(many);
    left.fetch_sub(count, Ordering::Relaxed);
    (count > 0).then(|| line.repeat(usize::try_from(count).unwrap_or_default()))
}

impl Socket {
    pub fn new(stream: TcpStream, control: SocketControl) -> Self {
        Self { stream, control, own: Vec::new() }
    }

    /// Writes the simulator's own lines until none are left.
    fn poll_lines(
        &mut self,
        cx: &mut Context<'_>,
        left: impl Fn(&SocketFlags) -> &AtomicU64,
        line: &[u8],
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.own.is_empty() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.own))?;
                self.own.drain(..written);
            }
            match take_lines(left(&self.control.0), line) {
                Some(lines) => self.own = lines,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// The part of `bytes` that may be written before the trailers.
    fn before_trailers<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let ends_body = bytes.len() > 2 && bytes.ends_with(LAST_CHUNK);
        if ends_body && self.control.0.trailers.load(Ordering::Relaxed) > 0 {
            bytes.get(..bytes.len() - 2).unwrap_or(bytes)
        } else {
            bytes
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.control.0.reset.load(Ordering::Relaxed) {
            // A socket that is already gone needs no reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_lines(cx, |flags| &flags.interim, INTERIM))?;
        if buf == b"\r\n" {
            ready!(self.poll_lines(cx, |flags| &flags.trailers, TRAILER))?;
        }
        let now = self.before_trailers(buf);
        Pin::new(&mut self.stream).poll_write(cx, now)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
