//! Server-sent events, split out of a byte stream without changing a byte.
//!
//! Owns the bytes between a push and the end of their event. Whatever the chunking, the `raw` of
//! all events and then [`Scanner::rest`] are the stream, byte for byte, and the `data` are the
//! same. Each byte is read once; an event costs no allocation unless it has several `data`
//! lines.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use std::ops::Range;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Finds event boundaries however the stream is chunked.
#[derive(Debug)]
pub struct Scanner {
    limit: usize,
    /// The bytes since the end of the last event.
    buffer: BytesMut,
    /// Start of the current line in `buffer`.
    line: usize,
    /// End of the part of the current line that was searched for its end.
    searched: usize,
    /// A line ended in CR: a line feed right here still belongs to it.
    after_cr: bool,
    /// The event so far has a line.
    has_line: bool,
    /// Ranges of the event's `data` values in `buffer`.
    data: Vec<Range<usize>>,
    /// No line has been read yet: a byte order mark may come first.
    at_start: bool,
}

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
#[error("the upstream sent an event larger than {limit} bytes")]
pub struct Oversize {
    pub limit: usize,
}

impl Scanner {
    /// A scanner that refuses events of more than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            line: 0,
            searched: 0,
            after_cr: false,
            has_line: false,
            data: Vec::new(),
            at_start: true,
        }
    }

    /// Appends the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event; `None` until more bytes come.
    ///
    /// A blank line by itself is an event without data. So is the line feed of a CRLF that was
    /// torn apart: an event that ends in CR is not delayed until the next byte.
    ///
    /// # Errors
    /// [`Oversize`], again on every later call.
    pub fn next_event(&mut self) -> Result<Option<Event>, Oversize> {
        let end = self.find_end();
        let len = end.unwrap_or(self.buffer.len());
        if len > self.limit {
            return Err(Oversize { limit: self.limit });
        }
        Ok(end.map(|end| self.take(end)))
    }

    /// The rest of a stream that has ended, read as an event that lacks only its blank line.
    #[must_use]
    pub fn last_event(&mut self) -> Option<Event> {
        let end = self.buffer.len();
        if end == 0 || end > self.limit {
            return None;
        }
        if self.line < end {
            self.read_line(self.line..end);
        }
        Some(self.take(end))
    }

    /// The rest of a stream that has ended: an event that was never finished.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        let rest = self.buffer.split().freeze();
        *self = Self { at_start: false, ..Self::new(self.limit) };
        rest
    }

    /// Reads lines until one is blank; the position after it.
    fn find_end(&mut self) -> Option<usize> {
        loop {
            if self.after_cr && self.searched < self.buffer.len() {
                self.after_cr = false;
                if self.buffer[self.searched] == b'\n' {
                    self.searched += 1;
                    self.line = self.searched;
                    if !self.has_line {
                        return Some(self.searched);
                    }
                }
            }
            let Some(found) = memchr2(b'\n', b'\r', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.line..self.searched + found;
            let mut next = line.end + 1;
            self.after_cr = self.buffer[line.end] == b'\r';
            if self.after_cr && self.buffer.get(next) == Some(&b'\n') {
                self.after_cr = false;
                next += 1;
            }
            self.line = next;
            self.searched = next;
            if line.is_empty() {
                return Some(next);
            }
            self.read_line(line);
        }
    }

    fn read_line(&mut self, mut line: Range<usize>) {
        self.has_line = true;
        let at_start = std::mem::take(&mut self.at_start);
        if at_start && self.buffer[line.clone()].starts_with(BOM) {
            line.start += BOM.len();
        }
        match &self.buffer[line.clone()] {
            [b'd', b'a', b't', b'a', b':', b' ', ..] => self.data.push(line.start + 6..line.end),
            [b'd', b'a', b't', b'a', b':', ..] => self.data.push(line.start + 5..line.end),
            b"data" => self.data.push(line.end..line.end),
            _ => {}
        }
    }

    /// Splits off the event that ends at `end`.
    fn take(&mut self, end: usize) -> Event {
        let raw = self.buffer.split_to(end).freeze();
        let data = match &self.data[..] {
            [] => None,
            [line] => Some(raw.slice(line.clone())),
            lines => Some(join(&raw, lines)),
        };
        self.data.clear();
        self.line = 0;
        self.searched = 0;
        self.has_line = false;
        self.at_start = false;
        Event { raw, data }
    }
}

impl Event {
    /// True if this is `data: [DONE]`.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.data.as_deref().is_some_and(|data| data.trim_ascii() == b"[DONE]")
    }
}

fn join(raw: &[u8], lines: &[Range<usize>]) -> Bytes {
    let mut data = BytesMut::with_capacity(raw.len());
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            data.extend_from_slice(b"\n");
        }
        data.extend_from_slice(&raw[line.clone()]);
    }
    data.freeze()
}

#[cfg(test)]
mod tests;
