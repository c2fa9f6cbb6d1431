//! The event scanner: no chunking changes a byte or an event, and no event passes the limit.
//!
//! Input: a length `n`, `n` bytes that say how long each chunk is, and the stream.

use wire::sse::{Event, Scanner};

const LIMIT: usize = 64;

pub fn run(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    let whole = scan([stream], usize::MAX);
    let chunked = scan(chunks(stream, lengths), usize::MAX);
    assert_eq!(data_of(&whole), data_of(&chunked));
    for events in [&whole, &chunked] {
        let bytes: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        assert_eq!(bytes, stream);
    }
    for event in scan(chunks(stream, lengths), LIMIT) {
        assert!(event.raw.len() <= LIMIT);
    }
}

/// All events until one is too large, and what is left as the last of them.
fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Vec<Event> {
    let mut scanner = Scanner::new(limit);
    let mut events = Vec::new();
    for chunk in chunks {
        scanner.push(chunk);
        while let Some(event) = match scanner.next_event() {
            Ok(event) => event,
            Err(_) => return events,
        } {
            events.push(event);
        }
    }
    events.push(Event { raw: scanner.rest(), data: None });
    events
}

fn data_of(events: &[Event]) -> Vec<&[u8]> {
    events.iter().filter_map(|event| event.data.as_deref()).collect()
}

fn chunks<'a>(mut stream: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for len in lengths {
        let (chunk, rest) = stream.split_at(stream.len().min(usize::from(*len)));
        chunks.push(chunk);
        stream = rest;
    }
    chunks.push(stream);
    chunks
}
