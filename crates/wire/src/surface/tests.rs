use super::*;
use crate::json;
use crate::output::{OutputKind, OutputPiece};
use crate::request::{Request, Rewrite};
use crate::sse::Scanner;
use crate::stream_reader::EventVerdict;
use crate::usage::Usage;
use domain::charge::TokenCount;
use serde_json::Value;

/// Records everything that a reply reports.
#[derive(Default)]
pub struct RecordingSink {
    pub texts: Vec<(OutputKind, String)>,
    pub usage: Option<Usage>,
    pub unreadable: usize,
    pub finished: bool,
    pub images: usize,
    /// Pictures within an answer, not of an image generation.
    pub pictures: usize,
    pub media: u64,
    pub sealed: u64,
}

impl UsageSink for RecordingSink {
    fn on_output(&mut self, _lane: u64, piece: OutputPiece<'_>) {
        match piece {
            OutputPiece::Text(kind, json) => {
                self.texts.push((kind, json::text_in(json).into_owned()));
            }
            OutputPiece::Image => self.pictures += 1,
            OutputPiece::Media(bytes) => self.media += bytes,
            OutputPiece::Sealed(bytes) => self.sealed += bytes,
        }
    }

    fn on_usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    fn on_unreadable(&mut self) {
        self.unreadable += 1;
    }

    fn on_finish(&mut self) {
        self.finished = true;
    }

    fn on_image(&mut self) {
        self.images += 1;
    }
}

/// A stream that was read: its output, the verdict on each event, and its bytes.
pub struct ReadStream {
    pub sink: RecordingSink,
    pub verdicts: Vec<EventVerdict>,
    pub raw: Vec<u8>,
    pub reader: Box<dyn StreamReader>,
}

pub fn read_stream(surface: Surface, stream: &[u8], piece: usize) -> ReadStream {
    let mut scanner = Scanner::new(1 << 20);
    let mut read = ReadStream {
        sink: RecordingSink::default(),
        verdicts: Vec::new(),
        raw: Vec::new(),
        reader: surface.stream_reader(true),
    };
    for bytes in stream.chunks(piece) {
        scanner.push(bytes);
        while let Some(event) = scanner.next_event().unwrap() {
            let ReadStream { sink, verdicts, raw, reader } = &mut read;
            verdicts.push(reader.on_event(&event, sink));
            raw.extend_from_slice(&event.raw);
        }
    }
    read
}

/// The data of each event of what the gateway writes.
pub fn written(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.ends_with("\n\n"), "{text}");
    let datas = text.lines().filter_map(|line| line.strip_prefix("data: "));
    datas.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

pub fn tokens(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> TokenCount {
    TokenCount { prompt, cached, completion, reasoning }
}

const STREAMS: [(Surface, &[u8], TokenCount, usize); 4] = [
    (
        Surface::ChatCompletions,
        include_bytes!("../../../../tests/golden/stream.sse"),
        TokenCount { prompt: 207, cached: 192, completion: 9, reasoning: 31 },
        0,
    ),
    (
        Surface::Responses,
        include_bytes!("../../../../tests/golden/responses.sse"),
        TokenCount { prompt: 207, cached: 192, completion: 9, reasoning: 31 },
        3,
    ),
    (
        Surface::Completions,
        include_bytes!("../../../../tests/golden/completions.sse"),
        TokenCount { prompt: 207, cached: 192, completion: 40, reasoning: 0 },
        2,
    ),
    (
        Surface::Messages,
        include_bytes!("../../../../tests/golden/messages.sse"),
        TokenCount { prompt: 207, cached: 192, completion: 40, reasoning: 0 },
        4,
    ),
];

#[test]
fn recorded_streams_are_followed_alike_however_they_are_cut() {
    for (surface, stream, expected, pieces) in STREAMS {
        for piece in [1, 2, 7, 1000, stream.len()] {
            let read = read_stream(surface, stream, piece);
            assert_eq!(read.raw, stream, "{surface:?}");
            assert_eq!(read.sink.usage.unwrap().tokens, expected, "{surface:?}");
            assert_eq!(read.sink.unreadable, 0, "{surface:?}");
            assert!(read.sink.finished, "{surface:?}");
            let (last, before) = read.verdicts.split_last().unwrap();
            assert_eq!(*last, EventVerdict::Last, "{surface:?}");
            assert!(before.iter().all(|verdict| *verdict == EventVerdict::Relay), "{surface:?}");
            if pieces > 0 {
                assert_eq!(read.sink.texts.len(), pieces, "{:?}", read.sink.texts);
            }
        }
    }
}

/// Wherever a stream breaks off, what the gateway ends it with is whole events of the surface.
#[test]
fn a_stream_can_be_ended_after_any_event() {
    for (surface, stream, ..) in STREAMS {
        let text = std::str::from_utf8(stream).unwrap();
        let events: Vec<_> = text.split_inclusive("\n\n").collect();
        for count in 0..events.len() - 1 {
            let so_far = events[..count].concat();
            let mut read = read_stream(surface, so_far.as_bytes(), 1000);
            let cut = read.reader.length_cut(&tokens(5, 0, 7, 0));
            let ending = read_stream(surface, &cut, 1000);
            assert_eq!(
                ending.verdicts.last(),
                Some(&EventVerdict::Last),
                "{surface:?} {count}: {cut:?}"
            );
            let usage = ending.sink.usage.unwrap_or_else(|| panic!("{surface:?}: {cut:?}"));
            assert_eq!(usage.tokens, tokens(5, 0, 7, 0), "{surface:?}");
            let error = ErrorBody {
                message: "two\nlines".to_owned(),
                kind: "server_error",
                param: None,
                code: Some("upstream_cut".into()),
                details: None,
            };
            let event = read_stream(surface, so_far.as_bytes(), 1000).reader.error(&error);
            assert!(std::str::from_utf8(&event).unwrap().contains("two\\nlines"));
            let verdicts = read_stream(surface, &event, 1000).verdicts;
            assert!(
                matches!(verdicts[..], [EventVerdict::ReplaceError(_)]),
                "{surface:?}: {verdicts:?}"
            );
        }
    }
}

#[test]
fn what_cannot_be_read_passes_and_counts() {
    for (surface, ..) in STREAMS {
        let odd = b"data: {\"type\":\n\n: comment\n\ndata:\n\nevent: ping\n\ndata: \xff\xfe\n\ndata: [1]\n\n";
        let read = read_stream(surface, odd, 3);
        assert_eq!(read.sink.unreadable, 3, "{surface:?}");
        assert!(read.verdicts.iter().all(|verdict| *verdict == EventVerdict::Relay), "{surface:?}");
        assert!(!read.reader.is_finished());
    }
}

#[test]
fn names_and_paths_are_of_one_surface_each() {
    for surface in Surface::ALL {
        assert_eq!(format!("/{}", surface.as_str()), surface.path());
        let same = Surface::ALL.iter().filter(|other| other.path() == surface.path());
        assert_eq!(same.count(), 1);
    }
}

#[test]
fn a_limit_goes_in_under_the_surfaces_own_name() {
    for (surface, body, expected) in [
        (
            Surface::Responses,
            r#"{"model":"m","input":"a"}"#,
            r#"{"max_output_tokens":7,"model":"m","input":"a"}"#,
        ),
        (
            Surface::Responses,
            r#"{"model":"m","input":"a","max_output_tokens":90,"max_tokens":80}"#,
            r#"{"model":"m","input":"a","max_output_tokens":7,"max_tokens":7}"#,
        ),
        (
            Surface::Completions,
            r#"{"model":"m","prompt":"a","max_tokens":null}"#,
            r#"{"model":"m","prompt":"a","max_tokens":7}"#,
        ),
        (
            Surface::Messages,
            r#"{"model":"m","messages":[{}],"max_tokens":9}"#,
            r#"{"model":"m","messages":[{}],"max_tokens":7}"#,
        ),
        (Surface::Embeddings, r#"{"model":"m","input":"a"}"#, r#"{"model":"m","input":"a"}"#),
    ] {
        let request = Request::parse(surface, body.as_bytes()).unwrap();
        let rewrite = Rewrite { max_output: Some(7), ..Rewrite::default() };
        assert_eq!(request.rewrite(rewrite), expected.as_bytes());
        assert!(!request.needs_include_usage());
    }
}

#[test]
fn prompts_of_every_shape_are_sized() {
    let check = |surface, body: &str, messages, text_bytes, tokens, images| {
        let request = Request::parse(surface, body.as_bytes()).unwrap();
        let size = request.prompt.size;
        let found = (size.messages, size.text_bytes, size.tokens, size.images);
        assert_eq!(found, (messages, text_bytes, tokens, images), "{body}");
    };
    let responses = Surface::Responses;
    check(responses, r#"{"model":"m","input":"abc"}"#, 1, 3, 1, 0);
    check(responses, r#"{"model":"m","input":"abc","instructions":"de"}"#, 1, 5, 1, 0);
    check(responses, r#"{"model":"m","previous_response_id":"resp_1"}"#, 0, 0, 0, 0);
    check(
        responses,
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"abc"},
           {"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="}]}]}"#,
        1,
        4 + 3,
        0,
        1,
    );
    check(Surface::Completions, r#"{"model":"m","prompt":["ab","c"]}"#, 0, 3, 0, 0);
    check(Surface::Embeddings, r#"{"model":"m","input":[1,2,3]}"#, 0, 0, 3, 0);
    check(Surface::Embeddings, r#"{"model":"m","input":[[1],[2,3]]}"#, 0, 0, 3, 0);
    check(
        Surface::Messages,
        r#"{"model":"m","max_tokens":1,"system":"be","messages":[{"role":"user","content":[
           {"type":"image","source":{"data":"iVBORw0KGgoAAAANSUhEUg==","type":"base64","media_type":"image/png"}},
           {"type":"tool_result","content":[{"type":"text","text":"abc"},
            {"type":"image","source":{"type":"url","media_type":"image/png","url":"https://a.example/u"}}]}]}]}"#,
        1,
        2 + 4 + 3,
        0,
        2,
    );
}

#[test]
fn every_prompt_of_a_completion_has_its_choices() {
    for (members, n) in [
        (r#""prompt":"a""#, 1),
        (r#""prompt":"a","n":2,"best_of":5"#, 5),
        (r#""prompt":["a","b","c"],"n":2"#, 6),
        (r#""prompt":[1,2,3],"n":2"#, 2),
        (r#""prompt":[[1],[2,3]],"n":2"#, 4),
    ] {
        let body = format!(r#"{{"model":"m",{members}}}"#);
        assert_eq!(Request::parse(Surface::Completions, body.as_bytes()).unwrap().n, n, "{body}");
    }
}

#[test]
fn a_number_of_images_is_reserved_or_refused_wherever_it_stands() {
    let read = |members: &str| {
        let body = format!(r#"{{"model":"m","prompt":"p",{members}}}"#);
        Request::parse(Surface::Images, body.as_bytes()).map(|request| request.n)
    };
    for (members, n) in [
        (r#""n":3,"num_images":2"#, 3),
        (r#""sampleCount":4"#, 4),
        (r#""batch_count":1,"options":{"n":1,"seed":7}"#, 1),
        (r#""options":{"n":null,"steps":30},"tags":["n","count"],"user":"n""#, 1),
    ] {
        assert_eq!(read(members).unwrap(), n, "{members}");
    }
    for (members, param) in [
        (r#""batch_count":4"#, "batch_count"),
        (r#""batchCount":4"#, "batchCount"),
        (r#""BATCH-COUNT":4"#, "BATCH-COUNT"),
        (r#""samples":"4""#, "samples"),
        (r#""parameters":{"n":4}"#, "parameters.n"),
        (r#""x":[{"y":[[{"numberOf_Images":4}]]}]"#, "x.numberOf_Images"),
        (r#""config":{"\u006e":4}"#, "config.n"),
        (r#""config":{"ſample_count":4}"#, "config.ſample_count"),
        (r#""config":{"n":{"n":1}}"#, "config.n"),
        (r#""options":{"max_images":15}"#, "options.max_images"),
        (r#""prompts":["a","b"]"#, "prompts"),
        (r#""instances":[{"prompt":"a"}]"#, "instances"),
    ] {
        let refused = read(members).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some(param), "{members}: {}", refused.message);
    }
    let list = br#"{"model":"m","prompt":["a","b"]}"#;
    assert!(Request::parse(Surface::Images, list).is_err());
}

#[test]
fn images_report_their_number_and_cost() {
    let mut sink = RecordingSink::default();
    Surface::Images.read_reply(
        br#"{"data":[{"url":"a"},{"b64_json":"b"}],"usage":{"cost_in_usd_ticks":400000000}}"#,
        &mut sink,
    );
    let usage = sink.usage.unwrap();
    assert_eq!((sink.images, usage.tokens.total(), usage.cost_ticks), (2, 0, Some(400_000_000)));
    Surface::Images.read_reply(
        br#"{"created":1,"data":[{}],"usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12}}"#,
        &mut sink,
    );
    assert_eq!(sink.usage.unwrap().tokens, tokens(5, 0, 7, 0));
}
