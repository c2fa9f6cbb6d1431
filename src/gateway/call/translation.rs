//! Serves a call on a surface that no upstream of the model offers, by way of one that it does.
//!
//! The translated request takes the path of any call: what is estimated, reserved, metered and charged is what the
//! upstream sees. Only the bytes for the caller are translated back, last of all, the gateway's own endings among
//! them.

use crate::gateway::call::body_memory::BodyPermit;
use crate::gateway::endpoint::RequestHead;
use crate::gateway::response::refusal::Refusal;
use crate::upstream::catalog::Catalog;
use bytes::Bytes;
use wire::request::{BadBody, Request};
use wire::surface::Surface;
use wire::translation::{
    ReplyTranslation, StreamTranslator, Translation, TranslationError, TranslationOptions,
};

/// Surfaces that a call may be translated to, the most expressive first.
const TARGETS: [Surface; 2] = [Surface::Responses, Surface::ChatCompletions];

/// A request on the surface of the upstream.
pub(crate) struct TranslatedRequest {
    pub surface: Surface,
    pub body: Vec<u8>,
    pub reply: ReplyTranslation,
}

/// Translates a request, if no upstream of its model offers its surface and one offers another that it can be
/// translated to. The memory of the new body is added to `permit`.
///
/// # Errors
/// The upstream's surface cannot express the request, or there is no memory for it.
pub(crate) fn translate(
    request: &Request<'_>,
    body: &[u8],
    catalog: &Catalog,
    head: &RequestHead,
    permit: &mut BodyPermit,
) -> Result<Option<TranslatedRequest>, Refusal> {
    let Some(surface) = target(catalog, &request.model, request.surface) else { return Ok(None) };
    let id = head.id.0.simple().to_string();
    let created_at = u64::try_from(head.admitted_at.as_second()).unwrap_or(0);
    let options = TranslationOptions { id: &id, created_at, ..TranslationOptions::default() };
    let translated = Translation::of_request(request.surface, surface, body, &options);
    let translated = translated.map_err(|error| Refusal::BadBody(bad_body(error)))?;
    permit.grow(translated.body.len())?;
    Ok(Some(TranslatedRequest { surface, body: translated.body, reply: translated.reply }))
}

/// The surface that calls on `from` to this model are translated to. `None` if they need no translation, or there
/// is none.
pub(crate) fn target(catalog: &Catalog, model: &str, from: Surface) -> Option<Surface> {
    let model = catalog.model(model).filter(|model| model.translates)?;
    let offers = |surface: Surface| model.routes.iter().any(|route| route.offers(surface));
    if offers(from) {
        return None;
    }
    TARGETS.into_iter().find(|to| Translation::is_possible(from, *to) && offers(*to))
}

/// The last bytes of a stream, in the caller's surface; `bytes` are those of the upstream's.
pub(crate) fn translated_end(translator: Option<Box<StreamTranslator>>, bytes: Bytes) -> Bytes {
    let Some(mut translator) = translator else { return bytes };
    let mut out = Vec::new();
    translator.push(&bytes, &mut out);
    translator.finish(&mut out);
    out.into()
}

fn bad_body(error: TranslationError) -> BadBody {
    let param = Some(error.param).filter(|param| !param.is_empty());
    BadBody { message: error.message, param, code: Some("invalid_value") }
}
