//! What a surface can say is read back as it was written.

use super::OPTIONS;
use crate::surface::Surface;
use crate::translation::assembler::{Assembler, AssemblerOptions};
use crate::translation::chat::read_reply::ChatReader;
use crate::translation::chat::write_stream::ChatStream;
use crate::translation::event::{ReplyEvent, StopReason};
use crate::translation::object::Object;
use crate::translation::reply::{ItemKind, NoStream, StreamWriter};
use crate::translation::request::{
    Call, CallKind, CallOutput, Function, Item, Part, Reasoning, Request, Role, Tool, ToolChoice,
};
use crate::translation::responses::read_reply::ResponsesReader;
use crate::translation::responses::write_reply::ResponseFrame;
use crate::translation::responses::write_stream::ResponseStream;
use crate::translation::stop_sequences::StopSequences;
use crate::translation::stream::ReplyReader;
use crate::translation::tool_names::ToolNames;
use crate::translation::{chat, responses};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "\\PC{1,20}", Just("a\n\"b\"\\\u{1}\u{1f980}".to_owned())]
}

fn part() -> impl Strategy<Value = Part<'static>> {
    prop_oneof![
        text().prop_map(|text| Part::Text(text.into())),
        text().prop_map(|url| Part::Image { url: url.into(), detail: Some("low".into()) }),
        text().prop_map(|data| Part::File { name: Some("f.pdf".into()), data: data.into() }),
    ]
}

/// A turn that every surface can express: what the user says, then calls and their outputs.
fn turn() -> impl Strategy<Value = Vec<Item<'static>>> {
    let calls = prop::collection::vec((text(), text()), 0..3);
    (prop::collection::vec(part(), 1..4), text(), calls).prop_map(|(parts, answer, calls)| {
        let is_text = |part: &Part<'_>| matches!(part, Part::Text(_));
        // Texts alone become one text.
        let parts = if parts.iter().all(is_text) { parts[..1].to_vec() } else { parts };
        let mut items = vec![
            Item::Message { role: Role::User, parts },
            Item::Message { role: Role::Assistant, parts: Part::text(answer) },
        ];
        let ids = |at: usize| format!("call_{at}");
        for (at, (name, input)) in calls.iter().enumerate() {
            items.push(Item::Call(Call {
                kind: CallKind::Function,
                call_id: ids(at).into(),
                namespace: None,
                name: name.clone().into(),
                input: format!("{{\"a\":{}}}", serde_json::Value::from(input.clone())).into(),
            }));
        }
        for (at, (_, output)) in calls.into_iter().enumerate() {
            items.push(Item::CallOutput(CallOutput {
                kind: CallKind::Function,
                call_id: ids(at).into(),
                parts: Part::text(output),
            }));
        }
        items
    })
}

fn request(turns: Vec<Vec<Item<'static>>>, choice: ToolChoice<'static>) -> Request<'static> {
    let mut items = vec![Item::Message { role: Role::System, parts: Part::text("Be brief.") }];
    items.extend(turns.into_iter().flatten());
    let function = Function {
        namespace: None,
        name: "f".into(),
        description: Some("Does it.".into()),
        parameters: Some(serde_json::from_str(r#"{"type":"object","z":1,"a":2}"#).unwrap()),
        strict: Some(true),
    };
    Request {
        model: "m".into(),
        items,
        tools: vec![Tool::Function(function)],
        tool_choice: Some(choice),
        parallel_tool_calls: Some(false),
        max_output: Some(77),
        stream: true,
        ..Request::default()
    }
}

fn choice() -> impl Strategy<Value = ToolChoice<'static>> {
    prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        Just(ToolChoice::Named { kind: CallKind::Function, namespace: None, name: "f".into() }),
    ]
}

fn written(surface: Surface, request: &Request<'_>) -> String {
    let mut out = Vec::new();
    match surface {
        Surface::Responses => responses::write_request::write(request, &mut out).unwrap(),
        _ => chat::write_request::write(
            request,
            (&ToolNames::of(&request.tools), &OPTIONS),
            &mut out,
        )
        .unwrap(),
    }
    String::from_utf8(out).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn requests_are_read_as_written(
        turns in prop::collection::vec(turn(), 1..4),
        choice in choice(),
    ) {
        let request = request(turns, choice);
        for surface in [Surface::ChatCompletions, Surface::Responses] {
            let first = written(surface, &request);
            let object = Object::read(&first).unwrap();
            let read = match surface {
                Surface::Responses => responses::read_request::read(&object).unwrap(),
                _ => chat::read_request::read(&object).unwrap(),
            };
            prop_assert_eq!(&read.items, &request.items);
            prop_assert_eq!(&read.tool_choice, &request.tool_choice);
            prop_assert_eq!(written(surface, &read), first);
        }
    }

    #[test]
    fn reasoning_and_custom_calls_are_read_as_responses_write_them(
        summary in text(), sealed in text(), input in text(),
    ) {
        let items = vec![
            Item::Reasoning(Reasoning { text: summary.into(), encrypted: Some(sealed.into()) }),
            Item::Call(Call {
                kind: CallKind::Custom,
                call_id: "c".into(),
                namespace: None,
                name: "apply_patch".into(),
                input: input.clone().into(),
            }),
            Item::CallOutput(CallOutput {
                kind: CallKind::Custom,
                call_id: "c".into(),
                parts: Part::text(input),
            }),
        ];
        let request = request(vec![items], ToolChoice::Auto);
        let body = written(Surface::Responses, &request);
        let read = responses::read_request::read(&Object::read(&body).unwrap()).unwrap();
        prop_assert_eq!(read.items, request.items);
    }

    #[test]
    fn streams_are_read_as_written(
        (reasoning, answer) in (text(), text()),
        calls in prop::collection::vec((text(), text()), 0..3),
    ) {
        let mut events = vec![
            ReplyEvent::Start { model: Some("grok"), created: Some(5) },
            ReplyEvent::Reasoning(&reasoning),
            ReplyEvent::ItemEnd,
            ReplyEvent::Text(&answer),
            ReplyEvent::ItemEnd,
        ];
        let inputs: Vec<String> =
            calls.iter().map(|(_, input)| format!("{{\"a\":{}}}", serde_json::Value::from(&**input))).collect();
        for (lane, ((name, _), input)) in (0..).zip(calls.iter().zip(&inputs)) {
            let kind = CallKind::Function;
            events.push(ReplyEvent::Call { lane, kind, call_id: name, namespace: None, name });
            events.push(ReplyEvent::CallInput { lane, input });
            events.push(ReplyEvent::CallEnd { lane });
        }
        events.push(ReplyEvent::Stop(StopReason::Finished));
        events.push(ReplyEvent::End);
        let frame = ResponseFrame { id: "1".to_owned(), echo: String::new() };
        let expected = items_of(&events);
        let responses = written_stream(&mut ResponseStream::new(frame), &events);
        let reader = ReplyReader::Responses(ResponsesReader::default());
        prop_assert_eq!(&read_stream(reader, &responses), &expected);
        let chat = written_stream(&mut ChatStream::new("1", true), &events);
        let reader = ReplyReader::Chat(ChatReader::default());
        prop_assert_eq!(&read_stream(reader, &chat), &expected);
    }
}

fn assembler() -> Assembler {
    let options =
        AssemblerOptions { stores_texts: true, shows_reasoning: true, id: "1".to_owned() };
    Assembler::new(options, ToolNames::default(), StopSequences::default())
}

type Items = Vec<(ItemKind, String)>;

fn items(assembler: Assembler) -> Items {
    assert!(assembler.has_ended());
    assembler.reply.items.into_iter().map(|item| (item.kind, item.text)).collect()
}

fn items_of(events: &[ReplyEvent<'_>]) -> Items {
    let mut assembler = assembler();
    for event in events {
        assembler.push(event.clone(), &mut NoStream, &mut Vec::new());
    }
    items(assembler)
}

fn written_stream(writer: &mut dyn StreamWriter, events: &[ReplyEvent<'_>]) -> String {
    let (mut assembler, mut out) = (assembler(), Vec::new());
    for event in events {
        assembler.push(event.clone(), writer, &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn read_stream(mut reader: ReplyReader, stream: &str) -> Items {
    let mut assembler = assembler();
    for data in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
        reader.read_event(data, &mut |event| {
            assembler.push(event, &mut NoStream, &mut Vec::new());
        });
    }
    items(assembler)
}
