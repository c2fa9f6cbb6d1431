//! The bytes of a request head: read within bounds, and refused where two servers could read them
//! differently.
//!
//! pingora takes heads of up to 1 MiB and settles ambiguities by itself: it drops one of two
//! readings, escapes a bad target, takes a bare LF for the end of a line. So each head is read
//! and judged here before pingora parses it, and after an ambiguous one the connection is closed
//! (RFC 9112 section 11.2): what stands behind it is never read as a request.

use super::buffers::Held;
use super::refusal::Refusal;
use bytes::{Buf, BytesMut};
use memchr::memmem;
use pingora_core::protocols::Stream;
use std::io;
use tokio::io::AsyncReadExt;

/// Room for one read; most heads need a single one.
const READ: usize = 4096;
/// Bytes that most heads do not pass.
const USUAL_HEAD: usize = 8 * 1024;
/// Header fields that pingora's parser takes.
const MAX_FIELDS: usize = 256;
const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Reads until `bytes` begins with a whole head that can be trusted; what came behind it stays in
/// `bytes`. False when the peer closed before that.
///
/// # Errors
/// The refusal of a head over `limit` bytes, one that is ambiguous, or one that finds no room in `held`.
pub async fn read(
    stream: &mut Stream,
    bytes: &mut BytesMut,
    limit: usize,
    memory: &mut Held,
) -> Result<bool, Refusal> {
    let mut searched = 0_usize;
    loop {
        // RFC 9112 section 2.2: older clients leave an empty line behind a body.
        while searched == 0 && bytes.starts_with(LINE_END) {
            bytes.advance(LINE_END.len());
        }
        let from = searched.saturating_sub(HEAD_END.len() - 1);
        if let Some(at) = memmem::find(&bytes[from..], HEAD_END) {
            let head = &bytes[..from + at];
            if head.len() > limit {
                return Err(Refusal::HeadersTooLarge);
            }
            return judge(head).map(|()| true);
        }
        if bytes.len() > limit {
            return Err(Refusal::HeadersTooLarge);
        }
        // Lines that end in a bare LF would never come to an end that is looked for.
        if memmem::find(&bytes[from..], b"\n\n").is_some() {
            return Err(BARE_CONTROL);
        }
        // A lone CR may be the first half of an empty line.
        searched = if &bytes[..] == b"\r" { 0 } else { bytes.len() };
        // A usual head is part of what a connection costs; a large one is counted as bodies are.
        if bytes.len() > USUAL_HEAD {
            memory.reach(bytes.capacity())?;
        }
        if more(stream, bytes).await.unwrap_or(0) == 0 {
            return Ok(false);
        }
    }
}

/// Reads what has come, at least a byte; 0 at the peer's end.
///
/// # Errors
/// The connection broke.
pub async fn more(stream: &mut Stream, bytes: &mut BytesMut) -> io::Result<usize> {
    bytes.reserve(READ);
    stream.read_buf(bytes).await
}

const BARE_CONTROL: Refusal =
    Refusal::BadHead("a line has a bare CR, LF or other control character");

/// The lines of a head, its closing empty line left out.
fn judge(head: &[u8]) -> Result<(), Refusal> {
    let mut lines = Lines(head);
    let version = request_line(lines.next().unwrap_or_default())?;
    let mut seen = Seen::default();
    for line in lines {
        seen.field(line, version)?;
        if seen.fields > MAX_FIELDS {
            return Err(Refusal::HeadersTooLarge);
        }
    }
    seen.agree(version)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Reads `METHOD SP target SP version`. Only a path is a target, so that no second authority
/// stands beside `Host`.
fn request_line(line: &[u8]) -> Result<Version, Refusal> {
    let parts: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let [method, target, version] = parts[..] else { return Err(NOT_HTTP) };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(NOT_HTTP),
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(NOT_HTTP);
    }
    let is_path = target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS");
    if !is_path || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::BadHead("the request target is not a path"));
    }
    Ok(version)
}

const NOT_HTTP: Refusal = Refusal::BadHead("it is not a well-formed HTTP/1.1 request");

/// What the fields so far say of the body's length and of the host.
#[derive(Default)]
struct Seen {
    fields: usize,
    lengths: usize,
    encodings: usize,
    hosts: usize,
}

impl Seen {
    fn field(&mut self, line: &[u8], version: Version) -> Result<(), Refusal> {
        self.fields += 1;
        let colon = line.iter().position(|b| *b == b':');
        let (name, value) = colon.map(|at| (&line[..at], &line[at + 1..])).ok_or(NOT_HTTP)?;
        // A folded line begins with a space, and a space before the colon is no token either.
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(Refusal::BadHead("a header name is malformed"));
        }
        if value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(BARE_CONTROL);
        }
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            // Nineteen digits always fit the numbers that count them.
            if !(1..=19).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
                return Err(Refusal::BadHead("an unreadable Content-Length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            if version == Version::Http10 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::BadHead("a Transfer-Encoding that is not just chunked"));
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        }
        Ok(())
    }

    fn agree(&self, version: Version) -> Result<(), Refusal> {
        if self.lengths > 1 {
            return Err(Refusal::BadHead("more than one Content-Length"));
        }
        if self.encodings > 1 {
            return Err(Refusal::BadHead("more than one Transfer-Encoding"));
        }
        if self.lengths > 0 && self.encodings > 0 {
            return Err(Refusal::BadHead("both Content-Length and Transfer-Encoding"));
        }
        let is_named = self.hosts == 1 || (self.hosts == 0 && version == Version::Http10);
        if is_named { Ok(()) } else { Err(Refusal::BadHead("not exactly one Host")) }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Lines between line ends; a bare CR or LF stays in its line, where no reader takes it.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match memmem::find(self.0, LINE_END) {
            Some(at) => (&self.0[..at], &self.0[at + LINE_END.len()..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(head: &str) -> bool {
        judge(head.as_bytes()).is_err()
    }

    #[test]
    fn heads_of_honest_clients_pass() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a",
            "GET /v1/models?x=%20&y HTTP/1.1\r\nhost:a:80\r\naccept:\t*/* ",
            "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0",
            "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nx-utf: gr\u{fc}n",
            "GET / HTTP/1.0",
            "OPTIONS * HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.1\r\nHost: a\r\nx-empty:\r\nx-two: 1\r\nx-two: 2",
        ] {
            assert!(!refused(head), "{head:?}");
        }
    }

    #[test]
    fn heads_with_two_readings_are_refused() {
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET\t/ HTTP/1.1",
            "GET / HTTP/2.0",
            "GET /",
            "",
            "GET /a b HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "GET * HTTP/1.1",
            "CONNECT a:443 HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET /\r HTTP/1.1",
        ] {
            assert!(refused(&format!("{line}\r\nHost: a")), "{line:?}");
        }
        for fields in [
            "Host: a\r\nContent-Length: 3\r\ncontent-length: 3",
            "Host: a\r\nContent-Length: 3, 3",
            "Host: a\r\nContent-Length: +3",
            "Host: a\r\nContent-Length: -3",
            "Host: a\r\nContent-Length: 0x3",
            "Host: a\r\nContent-Length:",
            "Host: a\r\nContent-Length: 18446744073709551617",
            "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Host: a\r\nTransfer-Encoding: chunked, identity",
            "Host: a\r\nTransfer-Encoding: gzip, chunked",
            "Host: a\r\nTransfer-Encoding: xchunked",
            "Host: a\r\nTransfer-Encoding:\u{b}chunked",
            "Host: a\r\nTransfer-Encoding : chunked",
            "Host: a\r\nx: 1\r\n folded",
            "Host: a\r\nx: 1\rContent-Length: 3",
            "Host: a\r\nx: 1\nContent-Length: 3",
            "Host: a\r\nx: 1\0",
            "Host: a\r\n: no name",
            "Host: a\r\nno colon",
            "Host: a\r\nHost: a",
            "x: no host",
        ] {
            assert!(refused(&format!("POST / HTTP/1.1\r\n{fields}")), "{fields:?}");
        }
        assert!(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked"));
    }

    #[test]
    fn too_many_fields_are_too_large() {
        let head = |fields| format!("GET / HTTP/1.1\r\nHost: a{}", "\r\nx: 1".repeat(fields));
        assert!(!refused(&head(MAX_FIELDS - 1)));
        let refusal = judge(head(MAX_FIELDS).as_bytes());
        assert!(matches!(refusal, Err(Refusal::HeadersTooLarge)), "{refusal:?}");
    }
}
