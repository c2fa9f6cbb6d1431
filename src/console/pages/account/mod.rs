//! The pages of one's own account.

mod profile;

use crate::control::state::ControlState;
use axum::Router;
use axum::routing::get;
use serde::Deserialize;

/// The pages below `/console/account`.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/account", get(profile::show))
        .route("/console/account/email", get(profile::show).post(profile::change_email))
        .route("/console/account/username", get(profile::show).post(profile::change_username))
        .route("/console/account/verify", get(profile::show).post(profile::send_link))
        .route("/console/account/password", get(profile::show).post(profile::change_password))
}

/// What was done before this page is shown.
#[derive(Default, Deserialize)]
pub struct DoneQuery {
    done: Option<String>,
}

/// An error of one of a page's forms.
#[derive(Default)]
struct Problem {
    /// The last part of the form's path; empty without an error.
    form: &'static str,
    message: String,
}

impl Problem {
    /// The error, if it is of this form.
    fn of(&self, form: &str) -> Option<&str> {
        (self.form == form).then_some(self.message.as_str())
    }
}
