use super::*;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x80\0\0\0\x80\x08\x06";

fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn url(mime: &str, bytes: &[u8]) -> String {
    quoted(&format!("data:{mime};base64,{}", STANDARD.encode(bytes)))
}

#[test]
fn pictures_are_known_wherever_they_stand() {
    let picture = [PNG, &noise(5000)].concat();
    let png = url("image/png", &picture);
    for (name, context) in [
        ("image_url", Some(MediaContext::Image)),
        ("url", Some(MediaContext::Image)),
        ("file_data", Some(MediaContext::File)),
        ("unknown", None),
    ] {
        assert_eq!(kind(name, &png, context, None), MediaKind::Image, "{name}");
    }
    // Without a head: by the name's kind, or by what it begins with.
    let bare = quoted(&STANDARD.encode(&picture));
    assert_eq!(kind("data", &bare, None, None), MediaKind::Image);
    assert_eq!(kind("images", &bare, Some(MediaContext::Image), None), MediaKind::Image);
    assert_eq!(kind("data", &bare, Some(MediaContext::File), Some("image/png")), MediaKind::Image);
    assert_eq!(
        kind("data", &quoted(&URL_SAFE_NO_PAD.encode(&picture)), None, None),
        MediaKind::Image
    );
    assert_eq!(kind("text", &bare, None, None), MediaKind::Text);
    assert_eq!(
        kind("data", &png.replace('/', "\\/"), Some(MediaContext::File), None),
        MediaKind::Image
    );
}

#[test]
fn documents_and_sound_are_binary() {
    let pdf = [&b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"[..], &noise(5000), b"xref 0 6\n"].concat();
    assert_eq!(
        kind("file_data", &url("application/pdf", &pdf), Some(MediaContext::File), None),
        MediaKind::Binary
    );
    let bare = quoted(&STANDARD.encode(&pdf));
    assert_eq!(
        kind("data", &bare, Some(MediaContext::File), Some("application/pdf")),
        MediaKind::Binary
    );
    for head in [
        &b"RIFF\x24\x08\0\0WAVEfmt "[..],
        b"ID3\x04\0",
        b"\xff\xfb\x90\x44",
        b"fLaC\0",
        b"OggS\0\x02",
    ] {
        let sound = quoted(&STANDARD.encode([head, &noise(5000)].concat()));
        assert_eq!(
            kind("data", &sound, Some(MediaContext::Sound), None),
            MediaKind::Binary,
            "{head:?}"
        );
        assert_eq!(
            kind("data", &sound, Some(MediaContext::Image), Some("image/png")),
            MediaKind::Binary
        );
    }
    assert_eq!(
        kind("url", &quoted("https://a.example/b.png?c=1"), Some(MediaContext::Image), None),
        MediaKind::Link
    );
}

#[test]
fn a_declared_type_makes_no_medium_of_text() {
    let words = "All the world's a stage, and all the men and women merely players. ".repeat(50);
    let utf16: Vec<u8> = words.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [
        words.as_bytes(),
        &utf16,
        &noise(5000),
        &[b"\x89PNG\r\n\x1a\n", words.as_bytes()].concat(),
        &[b"GIF89a", words.as_bytes()].concat(),
        &[b"BM", words.as_bytes()].concat(),
        &[b"\xff\xd8\xff\xe0", words.as_bytes()].concat(),
        &[b"RIFF\0\0\0\0WAVE", words.as_bytes()].concat(),
        &[b"ID3\x04", words.as_bytes()].concat(),
    ] {
        for mime in ["image/png", "image/webp", "audio/wav", "video/mp4"] {
            for context in [MediaContext::Image, MediaContext::Sound] {
                let url = url(mime, bytes);
                assert_eq!(kind("image_url", &url, Some(context), None), MediaKind::Text, "{mime}");
                let bare = quoted(&STANDARD.encode(bytes));
                assert_eq!(
                    kind("data", &bare, Some(context), Some(mime)),
                    MediaKind::Text,
                    "{mime}"
                );
            }
        }
    }
    for mime in ["application/pdf", "image/png", "application/octet-stream"] {
        let url = url(mime, &[b"%PDF-1.7\n", words.as_bytes()].concat());
        let found = kind("file_data", &url, Some(MediaContext::File), None);
        assert!(matches!(found, MediaKind::EncodedText(_)), "{mime}: {found:?}");
    }
}

#[test]
fn text_stays_text_whatever_it_is_called() {
    let text = "All the world's a stage, and all the men and women merely players. ".repeat(50);
    for (name, context) in [
        ("image_url", Some(MediaContext::Image)),
        ("data", Some(MediaContext::Sound)),
        ("file_data", Some(MediaContext::File)),
        ("source", None),
    ] {
        assert_eq!(kind(name, &quoted(&text), context, None), MediaKind::Text, "{name}");
        assert_eq!(kind(name, &quoted(&format!("data:,{text}")), context, None), MediaKind::Text);
        assert_eq!(
            kind(name, &quoted(&format!("data:image/png;base64,{text}")), context, None),
            MediaKind::Text
        );
        assert_eq!(
            kind(name, &quoted(&format!("https://a.example/{text}")), context, None),
            MediaKind::Text
        );
    }
    for mime in ["text/plain", "application/json", "image/svg+xml", "application/octet-stream", ""]
    {
        let json = url(mime, text.as_bytes());
        let found = kind("file_data", &json, Some(MediaContext::File), None);
        let MediaKind::EncodedText(payload) = found else { panic!("{mime}: {found:?}") };
        assert_eq!(decoded(payload), text);
    }
    let bare = quoted(&STANDARD.encode(&text));
    assert!(matches!(
        kind("data", &bare, Some(MediaContext::File), None),
        MediaKind::EncodedText(_)
    ));
    let chinese = url("application/octet-stream", "四海之内皆兄弟也".repeat(90).as_bytes());
    assert!(matches!(
        kind("file_data", &chinese, Some(MediaContext::File), None),
        MediaKind::EncodedText(_)
    ));
}

#[test]
fn a_seal_has_no_spaces() {
    assert!(is_sealed("\"gAAAAABo-_x1+/==\""));
    assert!(!is_sealed("\"one two\"") && !is_sealed("\"one\\u0020two\""));
    assert!(!is_sealed("\"日本\"") && !is_sealed("{}"));
}

proptest! {
    #[test]
    fn a_payload_of_text_comes_back(text in "\\PC{0,200}") {
        let payload = STANDARD.encode(&text);
        prop_assert_eq!(decoded(&payload), text);
    }

    #[test]
    fn no_string_makes_it_panic(text in "\\PC{0,60}|data:[a-z/;,]{0,20}[A-Za-z0-9+/=\\\\]{0,80}", at in 0_usize..3) {
        let context = [Some(MediaContext::Image), Some(MediaContext::File), None][at];
        let _ = kind("data", &quoted(&text), context, None);
        let _ = decoded(&text);
    }
}
