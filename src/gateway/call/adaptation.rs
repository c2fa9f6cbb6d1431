//! Adapts a call to its upstream: its dialect, and a surface that it offers where it does not offer the caller's.
//!
//! The adapted request takes the path of any call: what is estimated, reserved, metered and charged is what the
//! upstream sees. Only the bytes for the caller are adapted back, last of all, the gateway's own endings among
//! them.

use crate::gateway::call::body_memory::BodyPermit;
use crate::gateway::call::read_body::{self, on_body};
use crate::gateway::endpoint::RequestHead;
use crate::gateway::response::refusal::Refusal;
use crate::upstream::catalog::{Catalog, Model};
use bytes::Bytes;
use domain::caller::Caller;
use domain::charge::TokenCount;
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;
use wire::dialect::{Dialect, DialectOptions, DialectReply, DialectStream};
use wire::request::{BadBody, Request};
use wire::surface::Surface;
use wire::translation::{
    ReplyTranslation, StreamTranslator, Translation, TranslationError, TranslationOptions,
};

/// Surfaces that a call may be translated to, the most expressive first.
const TARGETS: [Surface; 2] = [Surface::Responses, Surface::ChatCompletions];

/// Members in which clients send ids of persons and machines, and paths of workspaces.
static PERSONAL: [LazyLock<Finder<'_>>; 2] = [
    LazyLock::new(|| Finder::new("\"client_metadata\"")),
    LazyLock::new(|| Finder::new("\"user_id\"")),
];

/// Members and types that have to be rewritten for xAI.
static TOOL_CHOICE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"tool_choice\""));
static CUSTOM: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"custom\""));

/// A request as the upstream takes it.
pub(crate) struct AdaptedRequest {
    pub surface: Surface,
    pub body: Vec<u8>,
    pub reply: ReplyAdapter,
}

/// Adapts the reply to one request to its caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplyAdapter {
    dialect: Option<DialectReply>,
    translation: Option<ReplyTranslation>,
}

/// Adapts one stream to its caller.
pub(crate) struct StreamAdapter {
    dialect: Option<DialectStream>,
    translator: Option<StreamTranslator>,
}

/// Adapts a request to the upstreams of its model; `None` if it passes as it is. The memory of the new body is
/// added to `permit` once the body is written.
///
/// # Errors
/// The upstream's surface cannot express the request, or there is no memory for it.
pub(crate) fn adapt(
    request: &Request<'_>,
    body: &[u8],
    (catalog, caller): (&Catalog, &Caller),
    head: &RequestHead,
    permit: &mut BodyPermit,
) -> Result<Option<AdaptedRequest>, Refusal> {
    // Admission refuses a model that the caller may not use.
    let model = catalog.model(&request.model).filter(|model| caller.may_use(&model.id));
    let Some(model) = model else { return Ok(None) };
    on_body(body.len(), || adapt_to(model, request, body, head, permit))
}

fn adapt_to(
    model: &Model,
    request: &Request<'_>,
    body: &[u8],
    head: &RequestHead,
    permit: &mut BodyPermit,
) -> Result<Option<AdaptedRequest>, Refusal> {
    let (surface, translated) = match target(model, request.surface) {
        Some(surface) => (surface, Some(translate(model, (request.surface, surface), body, head)?)),
        None => (request.surface, None),
    };
    let (body, translation) = match translated {
        Some((body, reply)) => (Cow::Owned(body), Some(reply)),
        None => (Cow::Borrowed(body), None),
    };
    let (body, dialect) = in_dialect(model, surface, body);
    let Cow::Owned(body) = body else { return Ok(None) };
    permit.grow(body.len() + dialect.as_ref().map_or(0, DialectReply::kept_bytes))?;
    Ok(Some(AdaptedRequest { surface, body, reply: ReplyAdapter { dialect, translation } }))
}

/// The surface that calls on `from` to this model are translated to. `None` if they need no translation, or there
/// is none.
fn target(model: &Model, from: Surface) -> Option<Surface> {
    let offers = |surface: Surface| model.routes.iter().any(|route| route.offers(surface));
    if !model.translates || offers(from) {
        return None;
    }
    TARGETS.into_iter().find(|to| Translation::is_possible(from, *to) && offers(*to))
}

fn translate(
    model: &Model,
    (from, to): (Surface, Surface),
    body: &[u8],
    head: &RequestHead,
) -> Result<(Vec<u8>, ReplyTranslation), Refusal> {
    let id = head.id.0.simple().to_string();
    let created_at = u64::try_from(head.admitted_at.as_second()).unwrap_or(0);
    let options = TranslationOptions {
        id: &id,
        created_at,
        system_first_only: model.system_first_only(),
        replays_reasoning: model.replays_reasoning(),
    };
    let translated = Translation::of_request(from, to, body, &options);
    let translated = translated.map_err(|error| Refusal::BadBody(bad_body(error)))?;
    Ok((translated.body, translated.reply))
}

/// The body in the dialect of the model's upstreams, and how tools in the reply are restored.
fn in_dialect<'a>(
    model: &Model,
    surface: Surface,
    body: Cow<'a, [u8]>,
) -> (Cow<'a, [u8]>, Option<DialectReply>) {
    let dialect = model.dialect();
    let has = |name: &LazyLock<Finder<'_>>| name.find(&body).is_some();
    let has_rules = dialect == Dialect::Xai
        && (surface == Surface::Responses || has(&TOOL_CHOICE) || has(&CUSTOM));
    let is_personal = || PERSONAL.iter().any(has);
    if !has_rules && model.takes_effort && !is_personal() {
        return (body, None);
    }
    let options = DialectOptions { takes_effort: model.takes_effort };
    let (edited, reply) = {
        let adapted = dialect.of_request(surface, &body, options);
        let edited = match adapted.body {
            Cow::Owned(edited) => Some(edited),
            Cow::Borrowed(_) => None,
        };
        (edited, adapted.reply)
    };
    let reply = Some(reply).filter(|reply| !reply.is_identity());
    (edited.map_or(body, Cow::Owned), reply)
}

impl AdaptedRequest {
    /// The request that the body holds.
    ///
    /// # Errors
    /// The upstream's surface cannot express the request.
    pub fn request(&self) -> Result<Request<'_>, Refusal> {
        read_body::parse(self.surface, &self.body)
    }
}

impl ReplyAdapter {
    /// True if the upstream's surface is not the caller's.
    pub fn translates(&self) -> bool {
        self.translation.is_some()
    }

    /// A whole reply for the caller, which was `charged` so many tokens.
    ///
    /// # Errors
    /// The body is not a valid reply of the upstream's surface.
    pub fn reply(&self, body: Bytes, charged: &TokenCount) -> Result<Bytes, TranslationError> {
        let body = match self.dialect.as_ref().map(|dialect| dialect.reply(&body)) {
            Some(Cow::Owned(restored)) => restored.into(),
            Some(Cow::Borrowed(_)) | None => body,
        };
        match &self.translation {
            Some(translation) => translation.reply(&body, Some(charged)).map(Bytes::from),
            None => Ok(body),
        }
    }

    /// The same for a stream; `None` if its bytes pass as they are.
    pub fn into_stream(self) -> Option<Box<StreamAdapter>> {
        let dialect = self.dialect.map(DialectReply::into_stream);
        let translator = self.translation.map(ReplyTranslation::into_stream);
        let is_needed = dialect.is_some() || translator.is_some();
        is_needed.then(|| Box::new(StreamAdapter { dialect, translator }))
    }
}

impl StreamAdapter {
    /// What the caller receives for the next bytes, which may be nothing.
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        let bytes = match &mut self.dialect {
            Some(dialect) => collected(|out| dialect.push(&bytes, out)),
            None => bytes,
        };
        match &mut self.translator {
            Some(translator) => collected(|out| translator.push(&bytes, out)),
            None => bytes,
        }
    }

    /// What the caller receives for the last bytes. A complete reply was `charged`, which stands for usage that the
    /// upstream does not report.
    pub fn end(mut self, bytes: Bytes, charged: Option<&TokenCount>) -> Bytes {
        let bytes = match &mut self.dialect {
            Some(dialect) => collected(|out| {
                dialect.push(&bytes, out);
                dialect.finish(out);
            }),
            None => bytes,
        };
        match &mut self.translator {
            Some(translator) => collected(|out| {
                if let Some(tokens) = charged {
                    translator.expect_usage(tokens);
                }
                translator.push(&bytes, out);
                translator.finish(out);
            }),
            None => bytes,
        }
    }
}

/// The last bytes of a stream for its caller; see [`StreamAdapter::end`].
pub(crate) fn adapted_end(
    adapter: Option<Box<StreamAdapter>>,
    bytes: Bytes,
    charged: Option<&TokenCount>,
) -> Bytes {
    match adapter {
        Some(adapter) => adapter.end(bytes, charged),
        None => bytes,
    }
}

fn collected(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::new();
    write(&mut out);
    out.into()
}

fn bad_body(error: TranslationError) -> BadBody {
    let param = Some(error.param).filter(|param| !param.is_empty());
    BadBody { message: error.message, param, code: Some("invalid_value") }
}
