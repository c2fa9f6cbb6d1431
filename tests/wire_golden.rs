//! Whole answers as an upstream sends them, from `tests/golden`, through scanner and meter.

use domain::charge::TokenCount;
use wire::chunk::Chunk;
use wire::cut::StreamSummary;
use wire::error::Fault;
use wire::sse::Scanner;
use wire::tokens::meter::Meter;

/// What is known once a stream has been read to its end.
#[derive(Default)]
struct Answer {
    meter: Meter,
    summary: StreamSummary,
    usage_chunks: usize,
    faults: Vec<Fault>,
    done: bool,
}

fn read(stream: &[u8], chunk_len: usize) -> Answer {
    let mut scanner = Scanner::new(1 << 20);
    let mut answer = Answer::default();
    for bytes in stream.chunks(chunk_len) {
        scanner.push(bytes);
        while let Some(event) = scanner.next_event().expect("no event is large") {
            answer.done |= event.is_done();
            let Some(chunk) = event.data.as_deref().and_then(Chunk::parse) else { continue };
            answer.meter.read_chunk(&chunk);
            answer.summary.observe(&chunk);
            answer.usage_chunks += usize::from(chunk.is_usage_only());
            answer.faults.extend(chunk.error.map(|error| error.fault));
        }
    }
    assert!(scanner.rest().is_empty(), "every recorded stream ends with a blank line");
    answer
}

#[test]
fn streams_read_the_same_in_any_chunking() {
    for stream in [
        &include_bytes!("golden/stream.sse")[..],
        include_bytes!("golden/stream_crlf.sse"),
        include_bytes!("golden/stream_tools.sse"),
    ] {
        for chunk_len in [1, 2, 7, 1000, stream.len()] {
            let mut answer = read(stream, chunk_len);
            let usage = answer.meter.usage().expect("usage comes last");
            let tokens = TokenCount { prompt: 207, cached: 192, completion: 9, reasoning: 31 };
            assert_eq!((usage.tokens, usage.cost_ticks), (tokens, Some(1_571_500)));
            assert!(answer.done && answer.summary.is_finished() && answer.meter.is_finished());
            assert_eq!(answer.usage_chunks, 1);
            assert!(answer.meter.output_ceiling() >= answer.meter.output_counted());
            assert!((5..20).contains(&answer.meter.output_counted()));
        }
    }
}

#[test]
fn an_error_in_the_stream_ends_nothing_well() {
    let answer = read(include_bytes!("golden/stream_error.sse"), 5);
    assert_eq!(answer.faults, [Fault::Broken]);
    assert!(!answer.done && !answer.summary.is_finished());
    assert_eq!(answer.meter.usage(), None);
}
