//! Model name to model, where the caller may use it and an upstream offers it.

use crate::gateway::response::refusal::Refusal;
use crate::upstream::catalog::{Catalog, Model, Route};
use domain::caller::Caller;
use std::sync::Arc;
use wire::surface::Surface;

/// The inputs of routing.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The model, by id or alias.
    pub model: &'a str,
    pub surface: Surface,
    /// The one upstream that has what the call goes on from.
    pub upstream: Option<&'a str>,
}

/// The requested model, with those of its routes that can serve the call.
///
/// # Errors
/// Unknown, not in the caller's plan or key, or offered by none of its upstreams.
pub fn route(
    catalog: &Catalog,
    caller: &Caller,
    wanted: Wanted<'_>,
) -> Result<Arc<Model>, Refusal> {
    let unknown = || Refusal::UnknownModel(wanted.model.to_owned());
    let model = catalog.model(wanted.model).ok_or_else(unknown)?;
    if !caller.may_use(&model.id) {
        return Err(Refusal::ModelNotAllowed(wanted.model.to_owned()));
    }
    if model.routes.iter().all(|route| wanted.is_met_by(route)) {
        return Ok(Arc::clone(model));
    }
    let routes: Vec<Route> =
        model.routes.iter().filter(|route| wanted.is_met_by(route)).cloned().collect();
    if routes.is_empty() {
        let offers = |surface: &Surface| model.routes.iter().any(|route| route.offers(*surface));
        let on: Vec<Surface> = Surface::ALL.into_iter().filter(offers).collect();
        if on.is_empty() || on.contains(&wanted.surface) {
            return Err(unknown());
        }
        let (model, surface) = (wanted.model.to_owned(), wanted.surface);
        return Err(Refusal::NotOffered { model, surface, on });
    }
    Ok(Arc::new(Model { routes, ..Model::clone(model) }))
}

impl Wanted<'_> {
    fn is_met_by(&self, route: &Route) -> bool {
        route.offers(self.surface) && self.upstream.is_none_or(|name| name == &*route.upstream.name)
    }
}
