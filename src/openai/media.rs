//! Detects encoded media in a request by content.
//!
//! An image of 300 KB must not count as 300 KB of text, and text must not count as an image. A field name
//! alone is therefore not enough: the string must be a link, or base64 of something that is not text.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// What a part of a request may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Image,
    /// Audio or video.
    Sound,
    /// A file of any kind, a text too.
    File,
}

/// What a string is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    Text,
    Image,
    /// Audio, video, a document.
    Binary,
    /// Fetched by the upstream: its size is unknown.
    Link,
    /// A text as base64, which the upstream decodes.
    EncodedText(&'a str),
}

/// Longest address that is taken for a link.
const MAX_LINK_LEN: usize = 8192;
/// Characters of base64 that are looked at in one place.
const WINDOW: usize = 256;
/// Below this many characters it is not worth asking whether base64 is a text.
const SHORTEST: usize = 64;

/// Names of members whose string may be base64 without saying so.
const DATA: [&str; 22] = [
    "data",
    "url",
    "uri",
    "image",
    "images",
    "image_url",
    "imageUrl",
    "image_data",
    "input_image",
    "source",
    "file_data",
    "fileData",
    "b64_json",
    "base64",
    "bytes",
    "blob",
    "result",
    "screenshot",
    "video",
    "audio",
    "document",
    "file",
];

/// Beginnings of pictures.
const PICTURES: [&[u8]; 8] =
    [b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\x01\0"];
/// Beginnings of other media that have text in them.
const DOCUMENTS: [&[u8]; 6] = [b"%PDF-", b"PK\x03\x04", b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3"];

/// What the string `json`, in its quotes, is as the member `name`; `place` is the kind of medium
/// that it is part of, if any, `mime` the media type that stands beside it.
#[must_use]
pub fn kind<'a>(name: &str, json: &'a str, place: Option<Place>, mime: Option<&str>) -> Kind<'a> {
    let Some(inside) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Kind::Text;
    };
    if let Some((mime, payload)) = data_url(inside) {
        return if is_base64(payload) { encoded(payload, place, Some(&mime)) } else { Kind::Text };
    }
    if place.is_some() && (is_link(inside) || name == "file_id") {
        return Kind::Link;
    }
    if !DATA.contains(&name) || !is_base64(inside) || is_words(inside) {
        return Kind::Text;
    }
    match (place, encoded(inside, place, mime)) {
        // Outside of a medium the name says little, so the beginning has to.
        (None, Kind::Image) if is_known(inside, &PICTURES) => Kind::Image,
        (None, Kind::Binary) if is_known(inside, &DOCUMENTS) => Kind::Binary,
        (None, _) => Kind::Text,
        (Some(_), kind) => kind,
    }
}

/// Whether the string can be a sealed text: ciphers are written in letters without spaces.
#[must_use]
pub fn is_sealed(json: &str) -> bool {
    let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|inside| is_made_of(inside, |b| SEALED[b as usize]))
}

/// The text in a payload of base64.
#[must_use]
pub fn decoded(payload: &str) -> String {
    String::from_utf8_lossy(&bytes_of(payload)).into_owned()
}

/// The media type and the payload of `data:image/png;base64,...`.
fn data_url(text: &str) -> Option<(String, &str)> {
    let head = text.get(..5)?;
    let rest = head.eq_ignore_ascii_case("data:").then(|| &text[5..])?;
    let end = rest.bytes().take(256).position(|b| b == b',')?;
    let head = rest[..end].replace("\\/", "/").to_ascii_lowercase();
    let mime = head.strip_suffix(";base64")?;
    Some((mime.split(';').next().unwrap_or_default().trim().to_owned(), &rest[end + 1..]))
}

/// What base64 is, by the media type where that says enough, else by what is in it.
fn encoded<'a>(payload: &'a str, place: Option<Place>, mime: Option<&str>) -> Kind<'a> {
    let mime = mime.unwrap_or_default();
    if is_textual(mime) {
        return Kind::EncodedText(payload);
    }
    if mime.starts_with("image/") || is_known(payload, &PICTURES) {
        return Kind::Image;
    }
    if mime.starts_with("audio/") || mime.starts_with("video/") || is_known(payload, &DOCUMENTS) {
        return Kind::Binary;
    }
    match place {
        Some(Place::Image) => Kind::Image,
        Some(Place::Sound) => Kind::Binary,
        Some(Place::File) | None if is_text(payload) => Kind::EncodedText(payload),
        Some(Place::File) | None => Kind::Binary,
    }
}

fn is_textual(mime: &str) -> bool {
    const WORDS: [&str; 12] = [
        "json",
        "xml",
        "yaml",
        "toml",
        "javascript",
        "typescript",
        "ecmascript",
        "csv",
        "sql",
        "markdown",
        "x-sh",
        "rtf",
    ];
    // Office documents have `xml` in their names, and are archives.
    let is_archive = mime.contains("openxmlformats");
    mime.starts_with("text/") || (!is_archive && WORDS.iter().any(|word| mime.contains(word)))
}

fn is_link(text: &str) -> bool {
    let has_scheme = text.starts_with("https:") || text.starts_with("http:");
    has_scheme && text.len() <= MAX_LINK_LEN && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Base64 of either alphabet, with the line breaks and the escaped slashes that some write.
fn is_base64(payload: &str) -> bool {
    !payload.is_empty() && is_made_of(payload, |b| BASE64[b as usize])
}

const BASE64: [bool; 256] = table(b"+/-_=");
/// Also what joins several pieces of base64, as in JWE.
const SEALED: [bool; 256] = table(b"+/-_=.~:");

const fn table(more: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < more.len() {
        table[more[at] as usize] = true;
        at += 1;
    }
    table
}

fn is_made_of(text: &str, is_letter: impl Fn(u8) -> bool) -> bool {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| !is_letter(*byte)) {
        if rest[at] != b'\\' || !matches!(rest.get(at + 1), Some(b'/' | b'n' | b'r')) {
            return false;
        }
        rest = &rest[at + 2..];
    }
    true
}

fn is_known(payload: &str, beginnings: &[&[u8]]) -> bool {
    let head = bytes_of(payload.get(..payload.len().min(32)).unwrap_or_default());
    let is_clip = head.get(4..8) == Some(b"ftyp");
    is_clip || beginnings.iter().any(|beginning| head.starts_with(beginning))
}

/// Whether most of three places in the payload read as text. A medium may begin or end with some.
fn is_text(payload: &str) -> bool {
    if payload.len() < SHORTEST {
        return reads_as_text(&bytes_of(payload));
    }
    let last = payload.len().saturating_sub(WINDOW) / 4 * 4;
    let places = [0, last / 8 * 4, last];
    let reads = |at: &usize| {
        let window = payload.get(*at..(*at + WINDOW).min(payload.len())).unwrap_or_default();
        reads_as_text(&bytes_of(window))
    };
    places.iter().filter(|at| reads(at)).count() >= 2
}

/// Whether what might be base64 is written like words: of encoded bytes two in five are small letters.
fn is_words(payload: &str) -> bool {
    let window = payload.as_bytes().get(..payload.len().min(4 * WINDOW)).unwrap_or_default();
    let small = window.iter().filter(|byte| byte.is_ascii_lowercase()).count();
    window.len() > SHORTEST && small * 5 > window.len() * 4
}

/// A window may begin and end within a character.
fn reads_as_text(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let odd = |c: &char| {
        *c == '\u{fffd}' || (c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}'))
    };
    text.chars().filter(odd).count() <= 6 && !bytes.contains(&0)
}

/// The bytes of a payload as far as they can be decoded: escapes and line breaks are left out, and
/// what ends in the middle of four characters ends there.
fn bytes_of(payload: &str) -> Vec<u8> {
    const ANY: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY);
    let mut plain = Vec::with_capacity(payload.len());
    let mut bytes = payload.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                if bytes.next() == Some(b'/') {
                    plain.push(b'/');
                }
            }
            b'-' => plain.push(b'+'),
            b'_' => plain.push(b'/'),
            b'=' => {}
            byte => plain.push(byte),
        }
    }
    if plain.len() % 4 == 1 {
        plain.pop();
    }
    ENGINE.decode(plain).unwrap_or_default()
}

#[cfg(test)]
#[path = "tests/media.rs"]
mod tests;
