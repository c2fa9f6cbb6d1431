//! `GET /v1/models` and `GET /v1/models/{id}`: the catalog as one caller may see it.

use super::refusal::Refusal;
use crate::account::caller::Caller;
use crate::upstream::catalog::{Catalog, Model};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// OpenAI's model object.
#[derive(Serialize)]
struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<ModelObject<'a>>,
}

/// All models the caller may use.
#[must_use]
pub fn list(catalog: &Catalog, caller: &Caller) -> Bytes {
    let allowed = catalog.models.iter().filter(|model| caller.may_use(&model.id));
    json(&ModelList { object: "list", data: allowed.map(|model| object(model)).collect() })
}

/// One model, by id or alias.
///
/// # Errors
/// There is none, or the caller may not use it: both look the same from outside.
pub fn one(catalog: &Catalog, caller: &Caller, name: &str) -> Result<Bytes, Refusal> {
    let model = catalog.model(name).filter(|model| caller.may_use(&model.id));
    model.map(|model| json(&object(model))).ok_or_else(|| Refusal::UnknownModel(name.to_owned()))
}

/// A strong validator of a body (RFC 9110 section 8.8.3).
#[must_use]
pub fn etag(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    let start = hash.iter().take(8).fold(0_u64, |start, byte| start << 8 | u64::from(*byte));
    format!("\"{start:016x}\"")
}

fn object(model: &Model) -> ModelObject<'_> {
    ModelObject {
        id: &model.id,
        object: "model",
        created: model.created,
        owned_by: &model.owned_by,
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data serialises").into()
}
