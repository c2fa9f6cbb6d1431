//! Model name to model, where the caller may use it.

use super::refusal::Refusal;
use crate::account::caller::Caller;
use crate::upstream::catalog::{Catalog, Model};
use std::sync::Arc;

/// The model a caller asked for by id or alias.
///
/// # Errors
/// Unknown, or not in the caller's plan or key.
pub fn route(catalog: &Catalog, caller: &Caller, name: &str) -> Result<Arc<Model>, Refusal> {
    let model = catalog.model(name).ok_or_else(|| Refusal::UnknownModel(name.to_owned()))?;
    if !caller.may_use(&model.id) {
        return Err(Refusal::ModelNotAllowed(name.to_owned()));
    }
    Ok(Arc::clone(model))
}
