//! Reads a streamed reply event by event, on every surface.

use super::error::{ErrorBody, UpstreamError};
use super::output::OutputPiece;
use super::sse::Event;
use super::usage::Usage;
use bytes::Bytes;
use domain::charge::TokenCount;

/// Receives the output and the usage of a reply, in the order of the reply.
pub trait UsageSink {
    /// A piece of output; texts of one lane and kind belong together.
    fn on_output(&mut self, lane: u64, piece: OutputPiece<'_>);
    /// The usage of the whole reply up to here; a later one replaces it.
    fn on_usage(&mut self, usage: Usage);
    /// An event that could not be parsed. It is relayed nevertheless.
    fn on_unreadable(&mut self);
    /// A choice has ended with a reason.
    fn on_finish(&mut self);
    /// One image of an image generation.
    fn on_image(&mut self);
}

/// The gateway's decision about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventVerdict {
    /// Relay its bytes unchanged, once its tokens are covered by the quota.
    Relay,
    /// Do not relay it: the gateway requested it (usage), the client did not.
    Drop,
    /// Relay it; the reply is complete with it.
    Last,
    /// The upstream failed. Relay its event, whose message is safe for clients to read.
    RelayError(Box<UpstreamError>),
    /// The upstream failed. Replace its event by one that the gateway writes.
    ReplaceError(Box<UpstreamError>),
}

/// What an upstream left out at the end of a complete reply. Surfaces without such parts lack nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingEnd {
    /// The event with the usage that the caller requested.
    pub usage: Bytes,
    /// The end marker.
    pub marker: &'static [u8],
}

impl MissingEnd {
    /// The last bytes of the upstream, completed: usage stands ahead of the end marker.
    #[must_use]
    pub fn complete(self, last: Bytes) -> Bytes {
        let Self { usage, marker } = self;
        if usage.is_empty() && marker.is_empty() {
            return last;
        }
        if marker.is_empty() {
            return [usage, last].concat().into();
        }
        // Without its end marker, the reply may also lack the blank line behind its last event.
        let blank: &[u8] = match &last[..] {
            [] | [.., b'\n', b'\n'] | [.., b'\r', b'\n', b'\r', b'\n'] => b"",
            [.., b'\n'] => b"\n",
            _ => b"\n\n",
        };
        [&last[..], blank, &usage, marker].concat().into()
    }
}

/// Reads one stream of a surface, and writes the events that end it early.
pub trait StreamReader: Send {
    /// Reads one event and reports its output and usage to `to`.
    fn on_event(&mut self, event: &Event, to: &mut dyn UsageSink) -> EventVerdict;

    /// True if every choice has ended, even if the end marker is missing.
    fn is_finished(&self) -> bool;

    /// The id under which the upstream stores the reply, once it is known.
    fn id(&self) -> Option<&str> {
        None
    }

    /// The events that end the reply early as a token limit would, end marker included.
    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes;

    /// What a complete reply lacks, which was charged `tokens`.
    fn missing_end(&self, _tokens: &TokenCount) -> MissingEnd {
        MissingEnd::default()
    }

    /// The event that reports an error once the reply has begun. It never makes a reply look complete.
    fn error(&mut self, error: &ErrorBody) -> Bytes;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Scanner;
    use crate::surface::Surface;
    use crate::tokens::meter::Meter;

    const CONTENT: &str = r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    const DONE: &str = "data: [DONE]\n\n";

    /// What a stream of these events lacks, and its last bytes with it.
    fn completed(
        surface: Surface,
        asks: bool,
        events: &[&str],
        last: &str,
    ) -> (MissingEnd, String) {
        let mut reader = surface.stream_reader(asks);
        let mut scanner = Scanner::new(1_000_000);
        for event in events {
            scanner.push(format!("{event}\n\n").as_bytes());
        }
        let mut meter = Meter::default();
        while let Ok(Some(event)) = scanner.next_event() {
            let _ = reader.on_event(&event, &mut meter);
        }
        let missing =
            reader.missing_end(&TokenCount { prompt: 3, completion: 4, ..TokenCount::default() });
        let whole = missing.clone().complete(Bytes::from(last.to_owned()));
        (missing, String::from_utf8(whole.to_vec()).unwrap())
    }

    #[test]
    fn a_whole_stream_lacks_nothing() {
        for (asks, events) in
            [(false, &[CONTENT, "data: [DONE]"][..]), (true, &[CONTENT, USAGE, "data: [DONE]"])]
        {
            let (missing, last) = completed(Surface::ChatCompletions, asks, events, DONE);
            assert_eq!((missing, &*last), (MissingEnd::default(), DONE));
        }
        for surface in [Surface::Responses, Surface::Messages, Surface::Embeddings] {
            let (missing, last) = completed(surface, true, &[], "data: {}");
            assert_eq!((missing, &*last), (MissingEnd::default(), "data: {}"));
        }
    }

    #[test]
    fn usage_stands_ahead_of_the_end_marker_whoever_sends_it() {
        let (_, last) = completed(Surface::ChatCompletions, true, &[CONTENT, "data: [DONE]"], DONE);
        let (usage, done) = last.split_once("\n\n").unwrap();
        assert!(usage.contains(r#""prompt_tokens":3"#) && usage.contains(r#""id":"c""#), "{usage}");
        assert_eq!(done, DONE);
        for last in ["", CONTENT, &format!("{CONTENT}\n"), &format!("{CONTENT}\n\n")] {
            let (_, whole) = completed(Surface::ChatCompletions, true, &[CONTENT], last);
            let events: Vec<&str> = whole.split_terminator("\n\n").collect();
            let own = if last.is_empty() { &[][..] } else { &[CONTENT] };
            assert_eq!(events, [own, &[usage, "data: [DONE]"]].concat());
            let (_, whole) = completed(Surface::ChatCompletions, false, &[CONTENT], last);
            assert!(whole.ends_with(DONE) && !whole.contains("usage"), "{whole}");
        }
    }
}
