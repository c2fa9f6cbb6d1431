//! The readers of what upstreams send: never panic, and never let the numbers run away.

use wire::chunk::Chunk;
use wire::cut::{StreamSummary, length_cut};
use wire::error::UpstreamError;
use wire::sse::Scanner;
use wire::stream_reader::{EventVerdict, StreamReader};
use wire::surface::Surface;
use wire::tokens::meter::Meter;
use wire::usage::{MAX_TOKENS, Usage};

pub fn run(data: &[u8]) {
    let mut meter = Meter::default();
    meter.read_event(data);
    meter.read_event(data);
    let usages = [meter.usage(), Usage::parse(data), Usage::find(data)];
    for tokens in usages.into_iter().flatten().map(|usage| usage.tokens) {
        assert!(tokens.cached <= tokens.prompt);
        assert!(tokens.total() <= 3 * MAX_TOKENS);
    }
    // Each byte of output costs at most three tokens by the table of the meter.
    assert!(meter.output_ceiling() <= 6 * data.len() as u64 + 2);
    assert!(meter.output_counted() <= 2 * data.len() as u64 + 2);
    if let Some(chunk) = Chunk::parse(data) {
        let mut summary = StreamSummary::default();
        summary.observe(&chunk);
        let usage = chunk.usage.map(|usage| usage.tokens);
        for event in length_cut(&summary, usage.as_ref()).split_inclusive(|byte| *byte == b'\n') {
            let line = event.strip_prefix(b"data: ").unwrap_or_default();
            assert!(line.is_empty() || Chunk::parse(line).is_some());
        }
    }
    for surface in Surface::ALL {
        read_reply(surface, data);
    }
    for status in [200, 400, 401, 403, 404, 422, 429, 500, 503] {
        let error = UpstreamError::read(status, None, data);
        assert!((400..600).contains(&error.status));
        assert!(error.body.message.chars().count() <= 1100);
    }
    let _ = UpstreamError::in_reply(data);
}

/// As a whole reply and as a stream; and however the stream stands, it can be ended in order.
fn read_reply(surface: Surface, data: &[u8]) {
    let mut meter = Meter::default();
    surface.read_reply(data, &mut meter);
    let _ = surface.id_of(data);
    let mut reader = surface.stream_reader(true);
    read_stream(&mut *reader, data, &mut meter);
    let usage = meter.usage().map(|usage| usage.tokens).unwrap_or_default();
    assert!(usage.cached <= usage.prompt && usage.total() <= 4 * MAX_TOKENS);
    let cut = reader.length_cut(&usage);
    let verdict = read_stream(&mut *surface.stream_reader(true), &cut, &mut meter);
    assert_eq!(verdict, Some(EventVerdict::Last), "{cut:?}");
}

fn read_stream(
    reader: &mut dyn StreamReader,
    stream: &[u8],
    meter: &mut Meter,
) -> Option<EventVerdict> {
    let mut scanner = Scanner::new(1 << 20);
    scanner.push(stream);
    let mut last = None;
    while let Ok(Some(event)) = scanner.next_event() {
        last = Some(reader.on_event(&event, meter));
    }
    last
}
