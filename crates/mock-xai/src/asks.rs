//! What requests to the other surfaces ask for: completions, messages, embeddings, images, tokens.

use super::ask::{Ask, Message, Reading, Unreadable};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct CompletionsBody<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    prompt: Texts,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    n: Option<u32>,
    best_of: Option<u32>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct MessagesBody<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    messages: Vec<Message<'a>>,
    system: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    max_tokens: Option<u64>,
    tools: Option<&'a RawValue>,
    thinking: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EmbeddingsBody {
    model: String,
    input: Texts,
    encoding_format: Option<String>,
}

#[derive(Deserialize)]
struct ImagesBody {
    model: String,
    prompt: String,
    n: Option<u32>,
}

/// A text, or several, or one or several in tokens.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
    Tokens(Vec<u32>),
    SeveralTokens(Vec<Vec<u32>>),
}

impl Texts {
    /// How many there are.
    fn count(&self) -> u32 {
        let count = match self {
            Self::One(_) | Self::Tokens(_) => 1,
            Self::Several(texts) => texts.len(),
            Self::SeveralTokens(texts) => texts.len(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn read_by(&self, reading: &mut Reading) {
        match self {
            Self::One(text) => reading.prompt(text),
            Self::Several(texts) => texts.iter().for_each(|text| reading.prompt(text)),
            Self::Tokens(tokens) => reading.tokens += tokens.len() as u64,
            Self::SeveralTokens(texts) => {
                reading.tokens += texts.iter().map(|tokens| tokens.len() as u64).sum::<u64>();
            }
        }
    }
}

/// # Errors
/// [`Unreadable`].
pub fn completions(body: &[u8]) -> Result<Ask, Unreadable> {
    let body: CompletionsBody<'_> = serde_json::from_slice(body)?;
    let mut reading = Reading::without_template();
    body.prompt.read_by(&mut reading);
    let answers = body.n.unwrap_or(1).max(body.best_of.unwrap_or(1)).max(1);
    Ok(Ask {
        model: body.model.into_owned(),
        stream: body.stream.unwrap_or(false),
        stream_options: body.stream_options.is_some(),
        include_usage: body.stream_options.is_some_and(|options| options.include_usage),
        max_tokens: body.max_tokens,
        choices: answers * body.prompt.count(),
        ..reading.asked()
    })
}

/// # Errors
/// [`Unreadable`].
pub fn messages(body: &[u8]) -> Result<Ask, Unreadable> {
    let body: MessagesBody<'_> = serde_json::from_slice(body)?;
    let mut reading = Reading::default();
    if let Some(system) = body.system {
        reading.text(system.get().trim_matches('"'));
    }
    body.messages.iter().for_each(|message| reading.message(message));
    Ok(Ask {
        model: body.model.into_owned(),
        stream: body.stream.unwrap_or(false),
        include_usage: true,
        max_tokens: body.max_tokens,
        choices: 1,
        function: reading.tools(body.tools),
        show_reasoning: body.thinking.is_some(),
        ..reading.asked()
    })
}

/// # Errors
/// [`Unreadable`].
pub fn embeddings(body: &[u8]) -> Result<Ask, Unreadable> {
    let body: EmbeddingsBody = serde_json::from_slice(body)?;
    let mut reading = Reading::without_template();
    body.input.read_by(&mut reading);
    Ok(Ask {
        model: body.model,
        max_tokens: Some(0),
        choices: body.input.count(),
        in_base64: body.encoding_format.as_deref() == Some("base64"),
        ..reading.asked()
    })
}

/// # Errors
/// [`Unreadable`].
pub fn images(body: &[u8]) -> Result<Ask, Unreadable> {
    let body: ImagesBody = serde_json::from_slice(body)?;
    let mut reading = Reading::without_template();
    reading.prompt(&body.prompt);
    let choices = body.n.unwrap_or(1).max(1);
    Ok(Ask {
        model: body.model,
        max_tokens: Some(0),
        choices,
        ..Ask { prompt_tokens: 0, ..reading.asked() }
    })
}

/// A model and a text.
#[derive(Deserialize)]
pub struct Tokenize {
    pub model: String,
    pub text: String,
}

/// # Errors
/// [`Unreadable`].
pub fn tokenize(body: &[u8]) -> Result<Tokenize, Unreadable> {
    Ok(serde_json::from_slice(body)?)
}
