use super::*;
use proptest::prelude::*;

const PLENTY: usize = 1 << 20;

/// All events of `chunks`, and what is left.
fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Bytes) {
    let mut scanner = Scanner::new(PLENTY);
    let mut events = Vec::new();
    for chunk in chunks {
        scanner.push(chunk);
        while let Some(event) = scanner.next_event().unwrap() {
            events.push(event);
        }
    }
    (events, scanner.rest())
}

fn data_of(events: &[Event]) -> Vec<String> {
    let data = events.iter().filter_map(|event| event.data.as_deref());
    data.map(|data| String::from_utf8_lossy(data).into_owned()).collect()
}

fn check(stream: &str, expected: &[&str]) {
    let (events, rest) = scan([stream.as_bytes()]);
    assert_eq!(data_of(&events), expected, "{stream:?}");
    let mut bytes: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
    bytes.extend_from_slice(&rest);
    assert_eq!(bytes, stream.as_bytes());
}

#[test]
fn finds_data_in_every_spelling() {
    check("data: a\n\ndata: b\n\n", &["a", "b"]);
    check("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
    check("data: a\r\rdata: b\r\r", &["a", "b"]);
    check("data:a\n\ndata:  b\n\n", &["a", " b"]);
    check("data: a\ndata: b\ndata\n\n", &["a\nb\n"]);
    check("data\n\ndata:\n\ndata: \n\n", &["", "", ""]);
    check(": ping\n\nevent: x\nid: 7\ndata: a\nretry: 3\n\n", &["a"]);
    check("database: a\n\n data: b\n\nDATA: c\n\n", &[]);
    check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["a"]);
    check("\n\n\ndata: a\n\n\n", &["a"]);
    check("data: unfinished\n", &[]);
    check("", &[]);
}

#[test]
fn comments_and_unknown_events_stay_whole() {
    let (events, rest) = scan([&b": ping\n\nevent: x\n\ndata: a\r\n\r\n: tail"[..]]);
    let raw: Vec<&[u8]> = events.iter().map(|event| &event.raw[..]).collect();
    assert_eq!(raw, [&b": ping\n\n"[..], b"event: x\n\n", b"data: a\r\n\r\n"]);
    assert_eq!(&rest[..], b": tail");
}

#[test]
fn an_event_that_ends_in_cr_does_not_wait() {
    let mut scanner = Scanner::new(PLENTY);
    scanner.push(b"data: a\r\n\r");
    assert_eq!(&scanner.next_event().unwrap().unwrap().raw[..], b"data: a\r\n\r");
    scanner.push(b"\n");
    let torn = scanner.next_event().unwrap().unwrap();
    assert_eq!((&torn.raw[..], torn.data), (&b"\n"[..], None));
    assert!(scanner.rest().is_empty());
}

#[test]
fn knows_the_last_event() {
    let (events, _) =
        scan([&b"data: [DONE]\n\ndata:[DONE]\r\n\r\ndata: [DONE] x\n\n: [DONE]\n\n"[..]]);
    assert_eq!(events.iter().map(Event::is_done).collect::<Vec<_>>(), [true, true, false, false]);
}

#[test]
fn refuses_events_over_the_limit() {
    let mut scanner = Scanner::new(10);
    scanner.push(b"data: a\n\n");
    assert!(scanner.next_event().unwrap().is_some());
    scanner.push(b"data: 12345");
    for _ in 0..2 {
        assert_eq!(scanner.next_event(), Err(Oversize { limit: 10 }), "while unterminated");
    }
    assert_eq!(&scanner.rest()[..], b"data: 12345");

    let mut scanner = Scanner::new(10);
    scanner.push(b"data: 12345\n\ndata: a\n\n");
    for _ in 0..2 {
        assert_eq!(scanner.next_event(), Err(Oversize { limit: 10 }), "when terminated");
    }
}

#[test]
fn one_byte_at_a_time_costs_no_rescans() {
    // With a rescan for every push this would look at 2^43 bytes.
    let mut scanner = Scanner::new(8 << 20);
    for _ in 0..4 << 20 {
        scanner.push(b"x");
        assert_eq!(scanner.next_event(), Ok(None));
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    let line = prop_oneof![
        4 => "data: ?[a-z:é]{0,12}",
        1 => ": ?[a-z]{0,6}",
        1 => "(event|id|retry|data)(: [a-z]{0,4})?",
        3 => Just(String::new()),
    ];
    prop::collection::vec((line, end), 0..40).prop_map(|lines| {
        lines.into_iter().flat_map(|(line, end)| (line + end).into_bytes()).collect()
    })
}

/// CutRanges `bytes` at the given places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        stream in stream(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let (whole, _) = scan([&stream[..]]);
        for chunks in [cut(&stream, &places), stream.chunks(1).collect()] {
            let (events, rest) = scan(chunks);
            prop_assert_eq!(data_of(&events), data_of(&whole));
            let mut bytes: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(&bytes, &stream);
        }
    }

    #[test]
    fn any_bytes_come_out_as_they_went_in(
        stream in prop::collection::vec(prop::sample::select(b"\r\n\n:data x\xC3\xff".to_vec()), 0..200),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let (whole, _) = scan([&stream[..]]);
        let (events, rest) = scan(cut(&stream, &places));
        prop_assert_eq!(data_of(&events), data_of(&whole));
        let mut bytes: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(bytes, stream);
    }
}

#[test]
fn an_event_without_its_blank_line_can_still_be_read() {
    for (end, data) in
        [("data: [DONE]", "[DONE]"), ("data: a\ndata: b\n", "a\nb"), ("data: a\r", "a")]
    {
        let mut scanner = Scanner::new(100);
        scanner.push(format!("data: first\n\n{end}").as_bytes());
        scanner.next_event().unwrap().unwrap();
        assert_eq!(scanner.next_event(), Ok(None));
        let event = scanner.last_event().unwrap();
        assert_eq!(
            (&event.raw[..], event.data.as_deref()),
            (end.as_bytes(), Some(data.as_bytes()))
        );
        assert_eq!(scanner.last_event(), None);
    }
}
