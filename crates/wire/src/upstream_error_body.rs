//! Reads the error body of an upstream: its shape and its wording.
//!
//! Reads xAI's `{"code","error"}`, with codes in kebab case or in gRPC's sentences,
//! `{"error":"text"}`, OpenAI's `{"error":{"message","type","param","code"}}`, Google's list of one
//! such object, FastAPI's `detail`; and attributes the error. What the client learns of it is
//! decided in [`super::error`].
//!
//! A message may quote the caller's text. So words are searched for outside quotation marks only,
//! and if the status blames the request, at the message's beginning only.

use super::error::Fault;
use super::error_phrases;
use super::json::{self, each_element};
use memchr::memmem::Finder;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The common fields of all shapes of errors, as the upstream wrote them.
#[derive(Debug, Default)]
pub(super) struct RawUpstreamError {
    pub message: String,
    pub param: Option<String>,
    code: Option<String>,
    kind: Option<String>,
    /// The error is in OpenAI's shape, whose codes OpenAI's clients know.
    is_openai: bool,
    /// There is an `error` that is not null.
    pub has_error: bool,
    /// The body is an answer, whatever else it is.
    pub has_choices: bool,
}

/// False only if [`RawUpstreamError::has_error`] cannot be true of this body: spares most replies a reading.
pub(super) fn may_have_error(body: &[u8]) -> bool {
    // The word may be written with escapes.
    static WORDS: LazyLock<[Finder<'static>; 2]> =
        LazyLock::new(|| [Finder::new("error"), Finder::new("\\u")]);
    WORDS.iter().any(|word| word.find(body).is_some())
}

impl RawUpstreamError {
    /// Reads a body; all fields are empty if it is not an error.
    pub fn read(body: &[u8]) -> Self {
        if let Some(only) = element(body) {
            return Self::read(only.get().as_bytes());
        }
        let names =
            ["error", "message", "detail", "code", "type", "choices", "msg", "param", "object"];
        let Some([error, message, detail, code, kind, choices, msg, param, object]) =
            json::members(body, names)
        else {
            return Self::default();
        };
        let mut read = Self {
            code: given(code),
            kind: given(kind).filter(|kind| kind != "error"),
            ..Self::default()
        };
        let error = error.filter(|raw| !json::is_null(raw));
        let is_named_so = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() == "\"error\"");
        read.has_error = error.is_some() || is_named_so(object) || is_named_so(kind);
        match error.map(|raw| (raw, json::members(raw.get().as_bytes(), INNER))) {
            Some((_, Some([message, kind, param, code, status, msg]))) => {
                read.message = given(message).or(given(msg)).unwrap_or_default();
                read.param = given(param);
                read.code = given(code).or(read.code);
                read.kind = given(kind).or(given(status));
                read.is_openai = true;
            }
            Some((raw, None)) => read.message = json::text(raw).into_owned(),
            None => {
                read.message = given(message).or(given(detail)).or(given(msg)).unwrap_or_default();
                read.param = given(param);
                read.is_openai = read.kind.is_some() || is_named_so(kind);
            }
        }
        // An empty list beside an error is no answer.
        let has_choices = choices.is_some_and(|raw| !json::is_null(raw));
        let is_empty = choices.is_some_and(|raw| raw.get() == "[]");
        read.has_choices = has_choices && (!is_empty || read.message.is_empty());
        read
    }

    /// True if the body was JSON with an error in it.
    pub fn is_error(&self) -> bool {
        self.has_error || !self.message.is_empty()
    }

    /// Attributes the error, by its status, codes and message.
    pub fn fault(&self, status: u16) -> Fault {
        let spoken = error_phrases::unquoted(&self.message);
        let has = |words: &[&str]| words.iter().any(|word| spoken.contains(word));
        if let Some(fault) = self.operator_fault(status, &spoken) {
            return fault;
        }
        match status {
            429 => Fault::Rate,
            403 if self.is_about_content(&spoken) => Fault::Content,
            401 | 403 | 407 => Fault::OperatorKey,
            400 | 422 if self.is_content_refusal(&spoken) => Fault::Content,
            400 | 413 | 422 if self.has_code(&["context-length-exceeded"]) || has(&TOO_LONG) => {
                Fault::TooLong
            }
            400 | 422 if self.is_about_seals() => Fault::Sealed,
            400 | 404 | 422 if self.has_code(&error_phrases::NO_MODEL) => Fault::Model,
            404 if self.is_error() => Fault::Model,
            404 | 405 => Fault::Broken,
            408 | 504 | 524 => Fault::Timeout,
            400..=499 if self.is_error() || status != 400 => Fault::Request,
            503 | 529 => Fault::Unavailable,
            _ => Fault::Broken,
        }
    }

    /// The fault, if the operator's account, key or project is the cause.
    fn operator_fault(&self, status: u16, spoken: &str) -> Option<Fault> {
        let is_content = self.is_about_content(spoken);
        let begins = error_phrases::without_labels(spoken);
        let blames_request = matches!(status, 400 | 404 | 409 | 412 | 413 | 422);
        // An error about a field of the request is the caller's, whatever its message.
        let is_field = self.param.as_deref().is_some_and(|param| param != "stream");
        let says = |words: &[&str]| {
            if blames_request {
                !is_field && words.iter().any(|word| begins.starts_with(word))
            } else {
                matches!(status, 401..=403 | 407 | 429)
                    && words.iter().any(|word| spoken.contains(word))
            }
        };
        let is_rate = status == 429 && error_phrases::RATE.iter().any(|word| spoken.contains(word));
        if status == 402 || self.has_code(&error_phrases::MONEY_CODES) {
            return (!is_rate).then_some(Fault::OperatorQuota);
        }
        if status >= 400 && !is_content && !is_rate && says(&error_phrases::MONEY) {
            return Some(Fault::OperatorQuota);
        }
        let is_key = self.has_code(&error_phrases::KEY_CODES) || says(&error_phrases::KEY);
        (status != 429 && !is_content && is_key).then_some(Fault::OperatorKey)
    }

    fn is_about_content(&self, spoken: &str) -> bool {
        let mentions = |word: &&str| spoken.contains(word);
        self.has_code(&error_phrases::CONTENT_CODES) || error_phrases::CONTENT.iter().any(mentions)
    }

    /// True for an error of the request whose code says that content rules forbid it. Words alone do not: they may be
    /// about a parameter of that name.
    fn is_content_refusal(&self, spoken: &str) -> bool {
        self.has_code(&error_phrases::CONTENT_CODES)
            || self.has_code(&["invalid-prompt"]) && self.is_about_content(spoken)
    }

    /// True if the error is about reasoning that another account or server has sealed.
    fn is_about_seals(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().all(|word| message.contains(word));
        self.has_code(&["invalid-encrypted-content", "thinking-signature-invalid"])
            || has(&["invalid `signature` in `thinking` block"])
            || (has(&["encrypted content"]) || has(&["encrypted_content"]))
                && ["verif", "decrypt", "could not be", "invalid"].iter().any(|word| has(&[word]))
    }

    /// The words of code and type in one spelling: `-` between lower-case words.
    fn has_code(&self, codes: &[&str]) -> bool {
        let words = [&self.code, &self.kind];
        words.into_iter().flatten().any(|word| codes.contains(&&*error_phrases::kebab(word)))
    }

    /// The HTTP status that would have come with this error, had it not come after a 200.
    pub fn implied_status(&self) -> u16 {
        let words = [&self.code, &self.kind]
            .map(|word| error_phrases::kebab(word.as_deref().unwrap_or("")));
        let says =
            |parts: &[&str]| parts.iter().any(|part| words.iter().any(|word| word.contains(part)));
        if let Ok(status @ 400..=599) = words[0].parse() {
            status
        } else if self.has_code(&error_phrases::CONTENT_CODES) {
            400
        } else if says(&["exhausted", "rate-limit", "insufficient-quota", "too-many-requests"]) {
            429
        } else if says(&["billing", "credit", "payment"]) {
            402
        } else if says(&["invalid-api-key", "unauthenticated", "authentication", "unauthorized"]) {
            401
        } else if says(&["overloaded", "unavailable"]) {
            503
        } else if says(&["permission"]) {
            403
        } else if says(&["not-found"]) {
            404
        } else if says(&[
            "invalid",
            "context-length",
            "unknown-parameter",
            "unsupported",
            "bad-request",
        ]) {
            400
        } else if says(&["deadline", "timeout"]) {
            504
        } else if says(&["internal", "server-error"]) {
            500
        } else if self.message.to_ascii_lowercase().starts_with("invalid ") {
            400
        } else {
            503
        }
    }

    /// The code to hand on where the upstream speaks OpenAI's dialect; gRPC's words mean nothing
    /// to OpenAI's clients.
    pub fn openai_code(&self) -> Option<Cow<'static, str>> {
        let kind = self.kind.as_deref().filter(|kind| kind.contains('_'));
        let code = self.code.as_deref().or(kind)?;
        let is_word = code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let has_letters = code.bytes().any(|b| b.is_ascii_alphabetic());
        let is_general = code.ends_with("_error");
        let is_theirs = self.is_openai || (code.contains('_') && !code.contains('-'));
        let is_fit = is_word && has_letters && !is_general && is_theirs && code.len() <= 64;
        is_fit.then(|| Cow::Owned(code.to_owned()))
    }

    /// The limit that was hit is one of tokens rather than requests.
    pub fn is_about_tokens(&self, fault: Fault) -> bool {
        fault == Fault::Rate && self.message.to_ascii_lowercase().contains("tokens per")
    }

    /// It is `stream_options` that the upstream does not take.
    pub fn is_about_stream_options(&self) -> bool {
        let texts = [Some(&self.message), self.param.as_ref()];
        let names =
            |text: &String| text.contains("stream_options") || text.contains("include_usage");
        texts.into_iter().flatten().any(names)
    }
}

const INNER: [&str; 6] = ["message", "type", "param", "code", "status", "msg"];
const TOO_LONG: [&str; 4] =
    ["maximum prompt length", "maximum context length", "context window", "prompt is too long"];

fn given(raw: Option<&RawValue>) -> Option<String> {
    raw.filter(|raw| !json::is_null(raw)).map(|raw| json::text(raw).into_owned())
}

/// The first element, where the body is a list.
fn element(body: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.trim_start().starts_with('['))?;
    let mut first = None;
    each_element(text, |element| {
        first = first.take().or_else(|| element.get().starts_with('{').then(|| element.to_owned()));
    })
    .ok()?;
    first
}
