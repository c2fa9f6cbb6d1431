//! One reply as it arrives: finds its head, its first event and its end, and decodes nothing.
//!
//! Made for replies on loopback that we know the shape of; it is not a general HTTP parser.

use memchr::memmem;

/// How far one reply has come.
#[derive(Debug, Default)]
pub struct Reply {
    /// What arrived up to the first event, or the head of a plain reply.
    early: Vec<u8>,
    head: Option<Head>,
    /// Bytes of a plain body that are still to come.
    left: usize,
    /// The end of what arrived, to see where a chunked body stops.
    tail: Vec<u8>,
    pub begun: bool,
    pub ended: bool,
    pub finished_event: bool,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    end: usize,
    /// `None` = chunked.
    length: Option<usize>,
}

/// What ends a chunked body, and what ends a complete stream.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
const DONE: &[u8] = b"data: [DONE]";
const TAIL: usize = 48;

impl Reply {
    /// Readies this one for the next reply, keeping its memory.
    pub fn clear(&mut self) {
        self.early.clear();
        self.tail.clear();
        self.head = None;
        (self.left, self.begun, self.ended, self.finished_event) = (0, false, false, false);
    }

    /// Takes what arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.begun {
            self.early.extend_from_slice(bytes);
        }
        match self.head {
            Some(head) => self.body(head, bytes),
            None => self.look_for_head(),
        }
        self.look_for_first_event();
    }

    /// Whether it was a 200.
    pub fn ok(&self) -> bool {
        self.head.is_some_and(|head| head.status == 200)
    }

    /// What arrived first, for telling what went wrong.
    pub fn opening(&self) -> String {
        String::from_utf8_lossy(&self.early[..self.early.len().min(600)]).into_owned()
    }

    fn look_for_head(&mut self) {
        let Some(at) = memmem::find(&self.early, b"\r\n\r\n") else { return };
        let head = Head::read(&self.early[..at], at + 4);
        self.head = Some(head);
        self.left = head.length.unwrap_or(0);
        let body = self.early.split_off(head.end);
        self.body(head, &body);
        self.early.extend_from_slice(&body);
    }

    fn body(&mut self, head: Head, bytes: &[u8]) {
        if head.length.is_some() {
            self.left = self.left.saturating_sub(bytes.len());
            self.ended = self.left == 0;
            return;
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        self.ended = self.tail.ends_with(LAST_CHUNK);
        self.finished_event |= memmem::find(&self.tail, DONE).is_some();
    }

    fn look_for_first_event(&mut self) {
        let Some(head) = self.head else { return };
        if !self.begun {
            let plain = head.length.is_some();
            self.begun = plain || memmem::find(&self.early[head.end..], b"data:").is_some();
        }
    }
}

impl Head {
    fn read(head: &[u8], end: usize) -> Self {
        let text = String::from_utf8_lossy(head);
        let status = text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        Self { status, end, length: content_length(&text) }
    }
}

fn content_length(head: &str) -> Option<usize> {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    head.lines().find_map(value)
}
