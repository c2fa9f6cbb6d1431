//! Requests and replies as clients and upstreams send them, and what becomes of each. `UPDATE_GOLDEN=1` writes the
//! results again.

use super::{OPTIONS, data};
use crate::surface::Surface;
use crate::translation::{TranslatedRequest, Translation};
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/translation/tests/golden");
    let mut cases: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The surfaces in the name of a case: `messages-to-chat`.
fn surfaces(case: &Path) -> (Surface, Surface) {
    let name = case.file_name().unwrap().to_str().unwrap();
    let (from, to) = name.split_once("-to-").unwrap();
    let surface = |name: &str| match name {
        "messages" => Surface::Messages,
        "responses" => Surface::Responses,
        "chat" => Surface::ChatCompletions,
        other => panic!("{other} is no surface"),
    };
    (surface(from), surface(to))
}

/// The name of a surface in the names of golden files.
pub(super) fn name_of(surface: Surface) -> &'static str {
    match surface {
        Surface::Messages => "messages",
        Surface::Responses => "responses",
        _ => "chat",
    }
}

fn translated(case: &Path) -> TranslatedRequest {
    let (from, to) = surfaces(case);
    let body = fs::read(case.join("request.json")).unwrap();
    Translation::of_request(from, to, &body, &OPTIONS).unwrap()
}

pub(super) fn check(path: &Path, result: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, result).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(result, expected, "{} differs", path.display());
}

pub(super) fn pretty(json: &[u8]) -> String {
    let value: Value = serde_json::from_slice(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

#[test]
fn requests_become_requests_of_the_upstream() {
    for case in cases() {
        check(&case.join("upstream-request.json"), &pretty(&translated(&case).body));
    }
}

#[test]
fn whole_replies_become_replies_to_the_caller() {
    for case in cases() {
        let upstream = fs::read(case.join("upstream.json")).unwrap();
        let reply = translated(&case).reply.reply(&upstream, None).unwrap();
        check(&case.join("caller.json"), &pretty(&reply));
    }
}

#[test]
fn streams_become_streams_to_the_caller() {
    for case in cases() {
        let upstream = fs::read_to_string(case.join("upstream.sse")).unwrap();
        let stream = super::stream(translated(&case).reply, &upstream, usize::MAX);
        check(&case.join("caller.sse"), &stream);
    }
}

#[test]
fn events_of_responses_are_numbered_and_items_are_whole() {
    for case in cases().iter().filter(|case| surfaces(case).0 == Surface::Responses) {
        let events = data(&fs::read_to_string(case.join("caller.sse")).unwrap());
        for (number, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], number);
        }
        let of_kind = |kind: &str| -> Vec<Value> {
            events.iter().filter(|event| event["type"] == kind).cloned().collect()
        };
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.completed");
        let output = last["response"]["output"].as_array().unwrap();
        let (added, done) =
            (of_kind("response.output_item.added"), of_kind("response.output_item.done"));
        assert_eq!((added.len(), done.len()), (output.len(), output.len()));
        for item in output {
            let done = done.iter().find(|done| done["item"]["id"] == item["id"]).unwrap();
            assert_eq!(&done["item"], item);
            let deltas: String = events
                .iter()
                .filter(|event| event["item_id"] == item["id"])
                .filter_map(|event| event["delta"].as_str())
                .collect();
            let text = [&item["arguments"], &item["input"], &item["content"][0]["text"]];
            let text = text.iter().find_map(|text| text.as_str());
            assert_eq!(deltas, text.or(item["summary"][0]["text"].as_str()).unwrap_or_default());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn chunking_changes_nothing(piece in 1_usize..200) {
        for case in cases() {
            let upstream = fs::read_to_string(case.join("upstream.sse")).unwrap();
            let expected = fs::read_to_string(case.join("caller.sse")).unwrap();
            prop_assert_eq!(super::stream(translated(&case).reply, &upstream, piece), expected);
        }
    }
}
