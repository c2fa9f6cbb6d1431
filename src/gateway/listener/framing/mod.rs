//! The framing of requests on HTTP/1.1, looked at before hyper reads them: refused where two servers could
//! read it differently.
//!
//! hyper settles some ambiguities by itself: it drops a second Content-Length, or one beside a
//! Transfer-Encoding, and takes a bare LF for the end of a line. What it is given has been judged here, and
//! after an ambiguous head the connection is closed (RFC 9112 section 11.2): what stands behind it is never
//! read as a request.

use crate::gateway::response::refusal::Refusal;
use memchr::{memchr_iter, memmem};

/// Header fields that hyper's parser takes.
const MAX_FIELDS: usize = 100;
/// Digits of a chunk's size.
const MAX_SIZE_DIGITS: u8 = 15;
/// Bytes of all chunk extensions of a body, and of its trailers.
const MAX_FRAMING: usize = 16 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The framing of a request body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// Looks for the end of a head in `bytes`, of which `searched` have been looked at: its length with the closing
/// empty line, and its framing. `None` while it is not whole.
///
/// # Errors
/// The refusal of a head over `limit` bytes, or of one that is ambiguous.
pub(crate) fn head(
    bytes: &[u8],
    searched: usize,
    limit: usize,
) -> Result<Option<(usize, Framing)>, Refusal> {
    // Called before the first byte has arrived, too.
    if bytes.is_empty() {
        return Ok(None);
    }
    let from = searched.saturating_sub(HEAD_END.len() - 1);
    if let Some(at) = memmem::find(&bytes[from..], HEAD_END) {
        let head = &bytes[..from + at];
        if head.len() > limit {
            return Err(Refusal::HeadersTooLarge { limit });
        }
        return Ok(Some((head.len() + HEAD_END.len(), validate(head)?)));
    }
    if bytes.len() > limit {
        return Err(Refusal::HeadersTooLarge { limit });
    }
    // Lines that end in a bare LF would never come to an end that is looked for.
    if memmem::find(&bytes[from..], b"\n\n").is_some() {
        return Err(BARE_CONTROL);
    }
    Ok(None)
}

const BARE_CONTROL: Refusal =
    Refusal::BadHead("a header line contains a bare CR, LF or other control character");

/// The lines of a head, its closing empty line left out.
fn validate(head: &[u8]) -> Result<Framing, Refusal> {
    let mut lines = Lines(head);
    let version = request_line(lines.next().unwrap_or_default())?;
    let mut seen = FramingHeaders::default();
    for line in lines {
        seen.field(line, version)?;
        if seen.fields > MAX_FIELDS {
            return Err(Refusal::TooManyHeaders { limit: MAX_FIELDS });
        }
    }
    seen.check_consistent(version)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Reads `METHOD SP target SP version`. Only a path is a target, so that no second authority
/// stands beside `Host`.
fn request_line(line: &[u8]) -> Result<Version, Refusal> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(NOT_HTTP);
    };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(NOT_HTTP),
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(NOT_HTTP);
    }
    let is_path = target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS");
    if !is_path {
        return Err(Refusal::BadHead("the request target must be a path"));
    }
    // A fragment is no part of a target (RFC 9112 section 3.2): servers may drop it or not.
    let is_plain =
        |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'<' | b'>' | b'`');
    if !target.iter().all(is_plain) {
        return Err(Refusal::BadHead(
            "the request target contains a character that must be percent-encoded",
        ));
    }
    Ok(version)
}

const NOT_HTTP: Refusal = Refusal::BadHead("it is not a valid HTTP/1.1 request");

/// The header fields that decide on the framing and the host.
#[derive(Default)]
struct FramingHeaders {
    fields: usize,
    lengths: usize,
    length: u64,
    encodings: usize,
    hosts: usize,
}

impl FramingHeaders {
    fn field(&mut self, line: &[u8], version: Version) -> Result<(), Refusal> {
        self.fields += 1;
        let colon = line.iter().position(|b| *b == b':');
        let (name, value) = colon.map(|at| (&line[..at], &line[at + 1..])).ok_or(NOT_HTTP)?;
        // A folded line begins with a space, and a space before the colon is no token either.
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(Refusal::BadHead("a header name is not valid"));
        }
        if value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(BARE_CONTROL);
        }
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            // Nineteen digits always fit the numbers that count them.
            if !(1..=19).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
                return Err(Refusal::BadHead("Content-Length is not valid"));
            }
            let digits = value.iter().map(|digit| u64::from(digit - b'0'));
            self.length = digits.fold(0, |length, digit| length * 10 + digit);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            if version == Version::Http10 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::BadHead("Transfer-Encoding must be `chunked` alone"));
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        }
        Ok(())
    }

    fn check_consistent(&self, version: Version) -> Result<Framing, Refusal> {
        if self.lengths > 1 {
            return Err(Refusal::BadHead("there is more than one Content-Length header"));
        }
        if self.encodings > 1 {
            return Err(Refusal::BadHead("there is more than one Transfer-Encoding header"));
        }
        if self.lengths > 0 && self.encodings > 0 {
            return Err(Refusal::BadHead(
                "Content-Length and Transfer-Encoding must not be combined",
            ));
        }
        let is_named = self.hosts == 1 || (self.hosts == 0 && version == Version::Http10);
        if !is_named {
            return Err(Refusal::BadHead("exactly one Host header is required"));
        }
        Ok(if self.encodings > 0 { Framing::Chunked } else { Framing::Length(self.length) })
    }
}

/// True for the characters of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Lines between line ends; a bare CR or LF stays in its line, where no reader takes it.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = memchr_iter(b'\n', self.0).find(|at| self.0[..*at].ends_with(b"\r"));
        let (line, rest) = match end {
            Some(at) => (&self.0[..at - 1], &self.0[at + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line)
    }
}

/// Finds the end of a chunked body (RFC 9112 section 7.1), strictly.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    at: At,
    size: u64,
    digits: u8,
    /// Bytes of extensions and trailers so far.
    framing: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    /// Whitespace after a size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a trailer, or of the last line.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// The chunks are malformed, or have too much beside their data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunks;

impl Chunks {
    /// Takes in `bytes`; returns how many of them belong to the body.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunks> {
        let mut taken = 0;
        while taken < bytes.len() && self.at != At::End {
            if self.at == At::Data {
                let rest = bytes.len() - taken;
                let part = usize::try_from(self.size).unwrap_or(usize::MAX).min(rest);
                self.size -= part as u64;
                taken += part;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
            } else {
                self.at = self.after(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// True once the body has ended.
    pub fn is_ended(&self) -> bool {
        self.at == At::End
    }

    fn after(&mut self, byte: u8) -> Result<At, BadChunks> {
        Ok(match (self.at, byte) {
            (At::Size, digit) if digit.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > MAX_SIZE_DIGITS {
                    return Err(BadChunks);
                }
                let digit = char::from(digit).to_digit(16).unwrap_or_default();
                self.size = self.size * 16 + u64::from(digit);
                At::Size
            }
            (At::Size | At::Blank, b' ' | b'\t') if self.digits > 0 => self.beside(At::Blank)?,
            (At::Size | At::Blank, b';') if self.digits > 0 => At::Extension,
            (At::Size | At::Blank, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Extension, b'\r') => At::SizeLf,
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                if self.size == 0 { At::Line } else { At::Data }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::Line, b'\r') => At::EndLf,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::Line,
            (At::EndLf, b'\n') => At::End,
            (at @ At::Extension, byte) if byte != b'\n' => self.beside(at)?,
            (At::Line | At::Trailer, byte) if byte != b'\n' => self.beside(At::Trailer)?,
            _ => return Err(BadChunks),
        })
    }

    /// Counts a byte that is neither data nor needed.
    fn beside(&mut self, at: At) -> Result<At, BadChunks> {
        self.framing += 1;
        if self.framing > MAX_FRAMING { Err(BadChunks) } else { Ok(at) }
    }
}

#[cfg(test)]
mod tests;
