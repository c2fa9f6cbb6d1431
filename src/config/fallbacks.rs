//! Checks of `context_fallback` and `content_fallback`: a call that goes to the fallback has been adapted, and its
//! quota reserved, for the model that it named.

use super::error::{ConfigError, Origin};
use super::raw;
use crate::upstream::catalog::Model;
use std::sync::Arc;

/// Checks the fallbacks of `model`, one of the `configured` models; `usable` are those that have an upstream.
pub fn check(
    model: &raw::Model,
    (configured, usable): (&[raw::Model], &[Arc<Model>]),
    origin: &Origin,
) -> Result<(), ConfigError> {
    let id = &model.id.value.0;
    let find = |id: &str| usable.iter().find(|usable| &*usable.id == id);
    for (key, field) in [
        ("context_fallback", &model.context_fallback),
        ("content_fallback", &model.content_fallback),
    ] {
        let Some(field) = field else { continue };
        let name = &field.value.0;
        let problem = if name == id {
            Some("is the model itself")
        } else if !configured.iter().any(|other| other.id.value.0 == *name) {
            Some("is not the id of a model")
        } else {
            find(id).zip(find(name)).and_then(|(model, other)| conflict(model, other))
        };
        if let Some(problem) = problem {
            let problem = format!("{key} of the model `{id}`: `{name}` {problem}");
            return Err(origin.error(&field.span, problem));
        }
    }
    Ok(())
}

/// The reason that calls of `model` cannot be served by `other`.
fn conflict(model: &Model, other: &Model) -> Option<&'static str> {
    if other.hidden_reasoning && !model.hidden_reasoning {
        return Some("has hidden_reasoning, for which calls of this model do not reserve enough");
    }
    if other.dialect() != model.dialect() {
        return Some("has upstreams of another dialect");
    }
    if other.system_first_only() && !model.system_first_only() {
        return Some("has system_first_only, and this model does not");
    }
    if model.replays_reasoning() && !other.replays_reasoning() {
        return Some("lacks replays_reasoning, and this model has it");
    }
    if model.takes_effort && !other.takes_effort {
        return Some("has reasoning_effort = false, and this model does not");
    }
    None
}
