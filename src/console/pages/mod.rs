//! The pages, one module each.

pub mod login;
pub mod signup;
pub mod confirm;
pub mod preferences;
pub mod overview;
pub mod account;
pub mod links;
pub mod keys;
pub mod usage;
pub mod plans;
pub mod playground;
pub mod admin;

use super::error::PageError;
use crate::control::api_error::ApiError;

/// A path below `/console` that has no page.
pub async fn not_found() -> PageError {
    PageError::not_found()
}

/// A page that is asked for with a method it does not have.
pub async fn method_not_allowed() -> PageError {
    PageError::Api(ApiError::MethodNotAllowed)
}
