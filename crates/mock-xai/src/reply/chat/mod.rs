//! An [`Answer`] in the format of `/v1/chat/completions`: one JSON body, or a stream of events.
//!
//! An event is pasted from a prefix, a word and a suffix; nothing is serialised per token.

use crate::answer::{Answer, Usage};
use crate::fault::{Fault, Faults};
use crate::pacing::{Emitted, EventSource};
use crate::refusal::Refusal;
use crate::words::{Words, escaped};
use std::fmt::Write;

/// The reply's id and time of creation.
#[derive(Debug, Clone)]
pub struct Envelope {
    pub id: String,
    /// Unix time in seconds.
    pub created: i64,
    /// The time at which all tokens are generated.
    pub completed: i64,
}

impl Envelope {
    /// The id of the call in a choice: eight digits, which differ from reply to reply.
    pub fn call_id(&self, choice: u32) -> String {
        let digest = crc32fast::hash(self.id.as_bytes()).wrapping_add(choice);
        format!("call_{:08}", digest % 100_000_000)
    }
}

/// The last members of a completion and of each chunk.
const TAIL: &str = r#","system_fingerprint":"fp_simulated","service_tier":"default"}"#;

/// The whole completion as one JSON object.
pub fn completion(answer: &Answer, envelope: &Envelope) -> String {
    let Envelope { id, created, .. } = envelope;
    let mut body = format!(
        r#"{{"id":"{id}","object":"chat.completion","created":{created},"model":"{}","choices":["#,
        answer.model
    );
    for choice in 0..answer.choices {
        let comma = if choice == 0 { "" } else { "," };
        let (message, finish) = (message(answer, envelope, choice), answer.finish.as_str());
        let _ = write!(
            body,
            r#"{comma}{{"index":{choice},"message":{message},"finish_reason":"{finish}"}}"#
        );
    }
    body.push(']');
    if let Some(usage) = &answer.reported_usage {
        let _ = write!(body, r#","usage":{}"#, usage.chat_json());
    }
    body.push_str(TAIL);
    body
}

fn message(answer: &Answer, envelope: &Envelope, choice: u32) -> String {
    let text = answer.text_of(choice);
    let mut message = format!(r#"{{"role":"assistant","content":"{}""#, escaped(&text));
    if answer.shown_reasoning > 0 {
        let _ = write!(message, r#","reasoning_content":"{}""#, answer.reasoning_text());
    }
    if answer.call.is_some() {
        let _ = write!(
            message,
            r#","tool_calls":[{}]"#,
            call_json(answer, &envelope.call_id(choice), None)
        );
    }
    message.push_str(r#","refusal":null}"#);
    message
}

/// A tool call; events number it, whole messages do not.
fn call_json(answer: &Answer, id: &str, index: Option<u32>) -> String {
    let Some(call) = &answer.call else { return String::new() };
    let number = index.map(|index| format!(r#""index":{index},"#)).unwrap_or_default();
    let name = serde_json::Value::from(call.function.name.as_str());
    let arguments = serde_json::Value::from(call.function.arguments.as_str());
    format!(
        r#"{{{number}"id":"{id}","type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#
    )
}

/// The answer as a stream of chunks.
#[derive(Debug)]
pub struct ChatEvents {
    answer: Answer,
    envelope: Envelope,
    /// Everything before a delta, a choice each.
    prefixes: Vec<String>,
    words: Vec<Words>,
    reasoning: Words,
    stage: Stage,
    /// The choice that the next event belongs to.
    choice: u32,
    /// Tokens of each choice already sent in this stage.
    said_in_stage: u64,
    /// Visible tokens of all choices already sent.
    visible_tokens: u64,
    usage_chunks: u32,
    running_usage: bool,
}

/// The kind of event that is written next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reasoning,
    Words,
    Finish,
    Usage,
    Done,
    End,
}

impl ChatEvents {
    pub fn new(answer: Answer, envelope: &Envelope, include_usage: bool, faults: &Faults) -> Self {
        let prefixes =
            (0..answer.choices).map(|choice| prefix(&answer, envelope, choice)).collect();
        let words = (0..answer.choices).map(|choice| answer.words_of(choice)).collect();
        let wanted = u32::from(include_usage && answer.reported_usage.is_some());
        Self {
            envelope: envelope.clone(),
            prefixes,
            words,
            reasoning: answer.reasoning_words(),
            stage: if answer.shown_reasoning > 0 { Stage::Reasoning } else { Stage::Words },
            choice: 0,
            said_in_stage: 0,
            visible_tokens: 0,
            usage_chunks: if faults.has(Fault::UsageTwice) { wanted * 2 } else { wanted },
            running_usage: faults.has(Fault::UsageEveryChunk),
            answer,
        }
    }

    /// One chunk around a delta's inside.
    fn chunk(&self, out: &mut Vec<u8>, delta: &[&str], end: &str) {
        let prefix =
            self.prefixes.get(self.choice as usize).map(String::as_str).unwrap_or_default();
        out.extend_from_slice(prefix.as_bytes());
        for part in delta {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(end.as_bytes());
        if self.running_usage {
            let usage = self.answer.reported_usage.unwrap_or(self.answer.billed_usage);
            let usage = Usage { completion: self.visible_tokens.min(usage.completion), ..usage };
            out.extend_from_slice(format!(r#"],"usage":{}"#, usage.chat_json()).as_bytes());
        } else {
            out.push(b']');
        }
        out.extend_from_slice(TAIL.as_bytes());
        out.extend_from_slice(b"\n\n");
    }

    /// Moves on to the next choice, and after the last one to the next token or stage.
    fn pass_turn(&mut self, stage_length: u64, next: Stage) {
        self.choice += 1;
        if self.choice < self.answer.choices {
            return;
        }
        self.choice = 0;
        self.said_in_stage += 1;
        if self.said_in_stage >= stage_length {
            self.said_in_stage = 0;
            self.stage = next;
        }
    }

    fn word(&mut self, out: &mut Vec<u8>) -> Emitted {
        let word =
            self.words.get_mut(self.choice as usize).and_then(Iterator::next).unwrap_or_default();
        let first = self.said_in_stage == 0;
        let role = if first { r#""role":"assistant","# } else { "" };
        if let Some(call) = &self.answer.call {
            let tokens = call.tokens;
            let json = call_json(&self.answer, &self.envelope.call_id(self.choice), Some(0));
            self.visible_tokens += tokens;
            self.chunk(out, &[role, r#""content":"","tool_calls":["#, &json, "]"], "}}");
            self.pass_turn(1, Stage::Finish);
            return Emitted { tokens };
        }
        let (word, tokens) =
            if self.answer.words == 0 { ("".into(), 0) } else { (escaped(&word), 1) };
        self.visible_tokens += tokens;
        self.chunk(out, &[role, r#""content":""#, &word, "\""], "}}");
        self.pass_turn(self.answer.words, Stage::Finish);
        Emitted { tokens }
    }

    fn reasoning(&mut self, out: &mut Vec<u8>) -> Emitted {
        let word = self.reasoning.next().unwrap_or_default();
        let role = if self.said_in_stage == 0 { r#""role":"assistant","# } else { "" };
        self.chunk(out, &[role, r#""reasoning_content":""#, &word, "\""], "}}");
        self.said_in_stage += 1;
        if self.said_in_stage == self.answer.shown_reasoning {
            self.said_in_stage = 0;
            self.stage = Stage::Words;
        }
        Emitted { tokens: 0 }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Emitted {
        let end = format!(r#"}},"finish_reason":"{}"}}"#, self.answer.finish.as_str());
        self.chunk(out, &[], &end);
        self.pass_turn(1, if self.usage_chunks > 0 { Stage::Usage } else { Stage::Done });
        Emitted { tokens: 0 }
    }

    fn usage(&mut self, out: &mut Vec<u8>) -> Emitted {
        let prefix = self.prefixes.first().map(String::as_str).unwrap_or_default();
        let head = prefix.split_once(CHOICE).map_or(prefix, |(head, _)| head);
        let usage = self.answer.reported_usage.unwrap_or(self.answer.billed_usage).chat_json();
        let chunk = format!("{head}\"choices\":[],\"usage\":{usage}{TAIL}\n\n");
        out.extend_from_slice(chunk.as_bytes());
        self.usage_chunks -= 1;
        if self.usage_chunks == 0 {
            self.stage = Stage::Done;
        }
        Emitted { tokens: 0 }
    }
}

/// The text at which a prefix turns from the envelope to the choice.
const CHOICE: &str = r#""choices":[{"index":"#;

fn prefix(answer: &Answer, envelope: &Envelope, choice: u32) -> String {
    let Envelope { id, created, .. } = envelope;
    let model = &answer.model;
    format!(
        r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":"{model}",{CHOICE}{choice},"delta":{{"#
    )
}

impl EventSource for ChatEvents {
    fn token_is_next(&self) -> bool {
        matches!(self.stage, Stage::Reasoning | Stage::Words)
    }

    fn is_over(&self) -> bool {
        self.stage == Stage::End
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Emitted {
        match self.stage {
            Stage::Reasoning => self.reasoning(out),
            Stage::Words => self.word(out),
            Stage::Finish => self.finish(out),
            Stage::Usage => self.usage(out),
            Stage::Done | Stage::End => {
                out.extend_from_slice(b"data: [DONE]\n\n");
                self.stage = Stage::End;
                Emitted { tokens: 0 }
            }
        }
    }

    fn error(&self) -> String {
        format!("data: {}\n\n", Refusal::ForcedStatus(500).json())
    }
}

#[cfg(test)]
mod tests;
