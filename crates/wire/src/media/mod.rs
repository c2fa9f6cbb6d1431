//! Detects encoded media by content.
//!
//! An image of 300 KB must not count as 300 KB of text, and text must not count as an image. Neither a field
//! name nor a declared type is therefore enough: the string must be a link, or base64 of something that begins
//! as a medium does and does not read as text.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The kind of medium that a member may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaContext {
    Image,
    /// A member that contains audio or video.
    Sound,
    /// A file of any kind, a text too.
    File,
}

/// The content of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind<'a> {
    Text,
    Image,
    /// Encoded audio, video, or a document.
    Binary,
    /// Fetched by the upstream: its size is unknown.
    Link,
    /// A text as base64, which the upstream decodes.
    EncodedText(&'a str),
}

/// Longest address that is taken for a link.
const MAX_LINK_LEN: usize = 8192;
/// Characters of base64 that are decoded at each offset.
const WINDOW: usize = 256;
/// Base64 shorter than this many characters is not checked for text.
const SHORTEST: usize = 64;

/// Names of members whose string may be base64 without a declared type.
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

/// Beginnings of pictures. `RIFF` and ISO media are distinguished by what follows.
const PICTURES: [&[u8]; 9] = [
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"\0\0\x01\0",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL ",
];
/// Beginnings of sound, video and documents.
const BINARIES: [&[u8]; 12] = [
    b"%PDF-",
    b"PK\x03\x04",
    b"\xd0\xcf\x11\xe0",
    b"ID3",
    b"OggS",
    b"fLaC",
    b"#!AMR",
    b"caff",
    b"FORM",
    b"FLV\x01",
    b"\0\0\x01\xba",
    b"\x1aE\xdf\xa3",
];
/// Brands of ISO media that are pictures.
const PICTURE_BRANDS: [&[u8]; 6] = [b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"];

/// Classifies the string `json`, quotes included, of the member `name`. `context` is the kind of medium
/// around it, if any, `mime` the media type declared beside it.
#[must_use]
pub fn kind<'a>(
    name: &str,
    json: &'a str,
    context: Option<MediaContext>,
    mime: Option<&str>,
) -> MediaKind<'a> {
    let Some(inside) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return MediaKind::Text;
    };
    if let Some((mime, payload)) = data_url(inside) {
        return if is_base64(payload) {
            encoded(payload, context, Some(&mime))
        } else {
            MediaKind::Text
        };
    }
    if context.is_some() && (is_link(inside) || name == "file_id") {
        return MediaKind::Link;
    }
    if !DATA.contains(&name) || !is_base64(inside) || is_words(inside) {
        return MediaKind::Text;
    }
    match encoded(inside, context, mime) {
        // Outside of a medium the upstream is not known to decode it.
        MediaKind::EncodedText(_) if context.is_none() => MediaKind::Text,
        kind => kind,
    }
}

/// Classifies the string `json` of the member `name` of a reply; `is_image` is true within a member for
/// pictures. Upstreams label what they send, so a name is trusted if the characters are those of base64.
#[must_use]
pub fn kind_in_reply<'a>(name: &str, json: &'a str, is_image: bool) -> MediaKind<'a> {
    let Some(inside) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return MediaKind::Text;
    };
    if let Some((mime, payload)) = data_url(inside) {
        return match is_base64(payload) {
            true if mime.starts_with("image/") => MediaKind::Image,
            true => medium(payload).unwrap_or(MediaKind::Binary),
            false => MediaKind::Text,
        };
    }
    if is_image && is_link(inside) {
        return MediaKind::Link;
    }
    let may_be_encoded = DATA.contains(&name) || name == "partial_image_b64";
    if !may_be_encoded || inside.len() < SHORTEST || !is_base64(inside) || is_words(inside) {
        return MediaKind::Text;
    }
    medium(inside).unwrap_or(MediaKind::Binary)
}

/// True if the string can be a sealed text: ciphers are written in letters without spaces.
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

/// The kind of a base64 payload. A declared type is not believed: only a payload that begins as a medium
/// does, and does not continue as text, is one.
fn encoded<'a>(
    payload: &'a str,
    context: Option<MediaContext>,
    mime: Option<&str>,
) -> MediaKind<'a> {
    let is_file = matches!(context, Some(MediaContext::File) | None);
    if is_textual(mime.unwrap_or_default()) {
        return MediaKind::EncodedText(payload);
    }
    match medium(payload) {
        Some(medium) if !is_text(payload) => medium,
        // An upstream decodes files that are text. Nothing else is known of what becomes of the payload, so it
        // counts as it is written.
        _ if is_file && is_text(payload) => MediaKind::EncodedText(payload),
        _ => MediaKind::Text,
    }
}

/// The medium that a base64 payload begins as.
fn medium(payload: &str) -> Option<MediaKind<'static>> {
    let head = bytes_of(payload.get(..payload.len().min(32)).unwrap_or_default());
    let begins = |beginnings: &[&[u8]]| beginnings.iter().any(|begin| head.starts_with(begin));
    let behind = |at: usize, word: &[u8]| head.get(at..at + word.len()) == Some(word);
    let is_riff = head.starts_with(b"RIFF");
    let is_iso = behind(4, b"ftyp");
    let is_bitmap = head.starts_with(b"BM") && behind(6, b"\0\0\0\0");
    if begins(&PICTURES)
        || is_bitmap
        || (is_riff && behind(8, b"WEBP"))
        || (is_iso && PICTURE_BRANDS.iter().any(|brand| behind(8, brand)))
    {
        return Some(MediaKind::Image);
    }
    // Frames of MPEG audio begin with eleven set bits.
    let is_frame = matches!(head[..], [0xff, second, ..] if second & 0xe0 == 0xe0);
    (is_riff || is_iso || is_frame || begins(&BINARIES)).then_some(MediaKind::Binary)
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

/// True if most of three offsets in the payload read as text. A medium may begin or end with some.
fn is_text(payload: &str) -> bool {
    if payload.len() < SHORTEST {
        return reads_as_text(&bytes_of(payload));
    }
    let last = payload.len().saturating_sub(WINDOW) / 4 * 4;
    let offsets = [0, last / 8 * 4, last];
    let reads = |at: &usize| {
        let window = payload.get(*at..(*at + WINDOW).min(payload.len())).unwrap_or_default();
        reads_as_text(&bytes_of(window))
    };
    offsets.iter().filter(|at| reads(at)).count() >= 2
}

/// True if possible base64 reads like words: of encoded bytes two in five are lower-case letters.
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
mod tests;
