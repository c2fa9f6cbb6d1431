//! An [`Answer`] in the format of `/v1/completions`: one JSON body, or a stream of events.

use crate::answer::Answer;
use crate::pacing::{Emitted, EventSource};
use crate::refusal::Refusal;
use crate::reply::chat::Envelope;
use crate::words::Words;
use std::fmt::Write;

/// The whole completion as one JSON object.
pub fn completion(answer: &Answer, envelope: &Envelope) -> String {
    let mut body = format!("{}\"choices\":[", head(answer, envelope));
    for choice in 0..answer.choices {
        let comma = if choice == 0 { "" } else { "," };
        let (text, finish) = (answer.text_of(choice), answer.finish.as_str());
        let _ = write!(
            body,
            r#"{comma}{{"index":{choice},"text":"{text}","logprobs":null,"finish_reason":"{finish}"}}"#
        );
    }
    body.push(']');
    if let Some(usage) = &answer.reported_usage {
        let _ = write!(body, r#","usage":{}"#, usage.chat_json());
    }
    body.push('}');
    body
}

/// The members of a chunk before its choices.
fn head(answer: &Answer, envelope: &Envelope) -> String {
    let Envelope { id, created, .. } = envelope;
    let model = &answer.model;
    format!(r#"{{"id":"{id}","object":"text_completion","created":{created},"model":"{model}","#)
}

/// The answer as events, the choices in turns.
#[derive(Debug)]
pub struct CompletionEvents {
    answer: Answer,
    head: String,
    words: Vec<Words>,
    /// Events that have been sent.
    number: u64,
    include_usage: bool,
}

impl CompletionEvents {
    pub fn new(answer: Answer, envelope: &Envelope, include_usage: bool) -> Self {
        Self {
            head: head(&answer, envelope),
            words: (0..answer.choices).map(|choice| answer.words_of(choice)).collect(),
            number: 0,
            include_usage: include_usage && answer.reported_usage.is_some(),
            answer,
        }
    }

    /// Numbers of the first events after the words, the ends of choices, and the usage.
    fn stages(&self) -> (u64, u64, u64) {
        let choices = u64::from(self.answer.choices);
        let words = self.answer.words * choices;
        (words, words + choices, words + choices + u64::from(self.include_usage))
    }

    fn chunk(&mut self, out: &mut Vec<u8>, choice: u64, text: &str, finish: &str) {
        let head = &self.head;
        let chunk = format!(
            "data: {head}\"choices\":[{{\"index\":{choice},\"text\":\"{text}\",\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
        );
        out.extend_from_slice(chunk.as_bytes());
    }
}

impl EventSource for CompletionEvents {
    fn token_is_next(&self) -> bool {
        self.number < self.stages().0
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Emitted {
        let (words, finishes, usage) = self.stages();
        let choice = self.number % u64::from(self.answer.choices);
        let mut tokens = 0;
        if self.number < words {
            let at = usize::try_from(choice).unwrap_or_default();
            let word = self.words.get_mut(at).and_then(Iterator::next).unwrap_or_default();
            self.chunk(out, choice, &word, "null");
            tokens = 1;
        } else if self.number < finishes {
            let finish = format!("\"{}\"", self.answer.finish.as_str());
            self.chunk(out, self.number - words, "", &finish);
        } else if self.number < usage {
            let usage = self.answer.reported_usage.unwrap_or(self.answer.billed_usage).chat_json();
            let head = &self.head;
            let chunk = format!("data: {head}\"choices\":[],\"usage\":{usage}}}\n\n");
            out.extend_from_slice(chunk.as_bytes());
        } else {
            out.extend_from_slice(b"data: [DONE]\n\n");
        }
        self.number += 1;
        Emitted { tokens }
    }

    fn is_over(&self) -> bool {
        self.number > self.stages().2
    }

    fn error(&self) -> String {
        format!("data: {}\n\n", Refusal::ForcedStatus(500).json())
    }
}
