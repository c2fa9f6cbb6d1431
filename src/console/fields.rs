//! Fields of forms as people fill them in. Each error is a sentence in the language of the page.

use super::page::Page;
use crate::control::api_error::ApiError;
use crate::control::views::fields::{Code, Email, NewPassword, Password, Username};

/// An e-mail address.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn email(page: &Page, text: Option<String>) -> Result<Email, ApiError> {
    let email = Email::try_from(text.unwrap_or_default());
    email.map_err(|_| ApiError::invalid("email", page.t("This is not an e-mail address.")))
}

/// A username; `None` if the field is empty.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn username(page: &Page, text: Option<String>) -> Result<Option<Username>, ApiError> {
    text.map(Username::try_from).transpose().map_err(|_| {
        let rule = page.t("A username has 3 to 32 letters a to z, digits, dots, underscores and hyphens, and begins with a letter or digit.");
        ApiError::invalid("username", rule)
    })
}

/// A new password.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn new_password(page: &Page, text: Option<String>) -> Result<NewPassword, ApiError> {
    let password = NewPassword::try_from(text.unwrap_or_default());
    password
        .map_err(|_| ApiError::invalid("password", page.t("A password has 8 to 128 characters.")))
}

/// The current password.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn password(page: &Page, text: Option<String>) -> Result<Password, ApiError> {
    let password = Password::try_from(text.unwrap_or_default());
    password
        .map_err(|_| ApiError::invalid("current_password", page.t("Enter your current password.")))
}

/// A code of the second factor; `None` if the field is empty or missing.
///
/// # Errors
/// [`ApiError::WrongCode`].
pub fn code(text: Option<String>) -> Result<Option<Code>, ApiError> {
    text.map(Code::try_from).transpose().map_err(|_| ApiError::WrongCode)
}
