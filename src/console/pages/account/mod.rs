//! The pages of one's own account.

mod profile;
mod sessions;
mod second_factor;
mod data;

use crate::control::state::ControlState;
use axum::Router;
use axum::routing::{get, post};
use serde::Deserialize;

/// The pages below `/console/account`.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/account", get(profile::show))
        .route("/console/account/email", get(profile::show).post(profile::change_email))
        .route("/console/account/username", get(profile::show).post(profile::change_username))
        .route("/console/account/verify", get(profile::show).post(profile::send_link))
        .route("/console/account/password", get(profile::show).post(profile::change_password))
        .route(
            "/console/account/first-password",
            get(profile::show).post(profile::set_first_password),
        )
        .route("/console/account/sessions", get(sessions::list))
        .route("/console/account/sessions/end", post(sessions::end))
        .route("/console/account/sessions/end-others", post(sessions::end_others))
        .route(
            "/console/account/second-factor",
            get(second_factor::show).post(second_factor::begin),
        )
        .route(
            "/console/account/second-factor/set-up",
            get(second_factor::set_up).post(second_factor::enable),
        )
        .route(
            "/console/account/second-factor/codes",
            get(second_factor::show).post(second_factor::replace_codes),
        )
        .route(
            "/console/account/second-factor/off",
            get(second_factor::show).post(second_factor::turn_off),
        )
        .route("/console/account/export", post(data::export))
        .route("/console/account/delete", get(data::form).post(data::delete))
}

/// What was done before this page is shown.
#[derive(Default, Deserialize)]
pub struct AccountQuery {
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
