use super::*;

fn refused(head: &str) -> bool {
    validate(head.as_bytes()).is_err()
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
        "GET /v1/models#x HTTP/1.1",
        "GET /v1/models?a=<b> HTTP/1.1",
        "GET /` HTTP/1.1",
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
    let refusal = validate(head(MAX_FIELDS).as_bytes());
    assert!(matches!(refusal, Err(Refusal::TooManyHeaders { .. })), "{refusal:?}");
}

#[test]
fn a_head_says_where_its_body_ends() {
    for (fields, framing) in [
        ("", Framing::Length(0)),
        ("Content-Length: 0", Framing::Length(0)),
        ("Content-Length: 9999999999999999999", Framing::Length(9_999_999_999_999_999_999)),
        ("Transfer-Encoding: chunked", Framing::Chunked),
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}");
        assert_eq!(validate(text.trim_end().as_bytes()).unwrap(), framing, "{fields}");
    }
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbehind";
    for searched in 0..=text.len() {
        let found = head(text, searched.min(24), 64).unwrap();
        assert_eq!(found, Some((27, Framing::Length(0))));
    }
    assert_eq!(head(&text[..26], 0, 64).unwrap(), None);
    assert!(head(text, 0, 10).is_err() && head(&text[..12], 0, 10).is_err());
}

/// What is taken of `text`, and whether it ends there, however it arrives.
fn chunks(text: &str) -> Result<(usize, bool), BadChunks> {
    let mut whole = Chunks::default();
    let at_once = whole.take(text.as_bytes()).map(|taken| (taken, whole.is_ended()));
    let mut piecewise = Chunks::default();
    let mut taken = 0;
    for byte in text.as_bytes() {
        match piecewise.take(&[*byte]) {
            Ok(more) => taken += more,
            Err(bad) => {
                assert_eq!(at_once, Err(bad), "{text:?}");
                return at_once;
            }
        }
    }
    assert_eq!(at_once, Ok((taken, piecewise.is_ended())), "{text:?}");
    at_once
}

#[test]
fn chunks_end_where_they_say() {
    for (text, behind) in [
        ("0\r\n\r\n", "GET /"),
        ("3\r\nabc\r\n0\r\n\r\n", "x"),
        ("A;a=\"b\"\r\n0123456789\r\n1 \t;x\r\n\r\r\n00\r\na: b\r\nc: d\r\n\r\n", ""),
    ] {
        assert_eq!(chunks(&format!("{text}{behind}")), Ok((text.len(), true)), "{text:?}");
        assert_eq!(chunks(&text[..text.len() - 1]), Ok((text.len() - 1, false)));
    }
    let long = "e".repeat(MAX_FRAMING + 1);
    for bad in [
        "\r\n",
        ";x\r\n",
        " 1\r\n",
        "-1\r\n",
        "0x1\r\n",
        "g\r\n",
        "1\n",
        "1\rx",
        "1;a\n",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\rx",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\na: b\n",
        "1 1\r\n",
        "ffffffffffffffff\r\n",
        &format!("1;{long}"),
        &format!("0\r\n{long}"),
    ] {
        assert_eq!(chunks(bad), Err(BadChunks), "{bad:?}");
    }
}
