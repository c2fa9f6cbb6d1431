//! What a user has used: totals, calls, and the receipt of each call.

mod filters;
mod list;
mod export;
pub mod receipt;

use crate::control::state::ControlState;
use axum::Router;
use axum::routing::get;

/// The pages below `/console/usage`.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/usage", get(list::show))
        .route("/console/usage.csv", get(export::save))
        .route("/console/usage/{request}", get(receipt::show))
}
