//! Server-sent events, split out of a byte stream without changing a byte.

use bytes::Bytes;

/// Finds event boundaries however the stream is chunked.
#[derive(Debug)]
pub struct Scanner {}

/// One event as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Every byte of it, the blank line at its end too.
    pub raw: Bytes,
    /// The `data:` lines, joined by line feeds; `None` for comments and events without data.
    pub data: Option<Bytes>,
}

/// An event grew past the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upstream sent an event of more than {limit} bytes")]
pub struct Oversize {
    pub limit: usize,
}

impl Scanner {
    /// A scanner that refuses events of more than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let _ = limit;
        Self {}
    }

    /// Takes in the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// The next whole event.
    ///
    /// # Errors
    /// [`Oversize`].
    pub fn next_event(&mut self) -> Result<Option<Event>, Oversize> {
        Ok(None)
    }

    /// What is left when the stream has ended: an event that was never finished.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        Bytes::new()
    }
}

impl Event {
    /// Whether this is `data: [DONE]`.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.data.as_deref() == Some(b"[DONE]")
    }
}
