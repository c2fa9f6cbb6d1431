//! Fields of forms as people fill them in. Each error is a sentence in the language of the page.

use super::page::Page;
use crate::control::api_error::ApiError;
use crate::control::views::fields::{Code, Email, NewEmail, NewPassword, Password, Username};

/// An e-mail address for an account.
///
/// # Errors
/// [`ApiError::FormField`].
pub fn new_email(page: &Page, text: Option<String>) -> Result<NewEmail, ApiError> {
    let email = NewEmail::try_from(text.unwrap_or_default());
    email.map_err(|_| ApiError::form_field(page.t("This is not an e-mail address.")))
}

/// An e-mail address that an account may have.
///
/// # Errors
/// [`ApiError::FormField`].
pub fn email(page: &Page, text: Option<String>) -> Result<Email, ApiError> {
    let email = Email::try_from(text.unwrap_or_default());
    email.map_err(|_| ApiError::form_field(page.t("This is not an e-mail address.")))
}

/// A username; `None` if the field is empty.
///
/// # Errors
/// [`ApiError::FormField`].
pub fn username(page: &Page, text: Option<String>) -> Result<Option<Username>, ApiError> {
    text.map(Username::try_from).transpose().map_err(|_| {
        let rule = page.t("A username has 3 to 32 letters a to z, digits, dots, underscores and hyphens, and begins with a letter or digit.");
        ApiError::form_field(rule)
    })
}

/// A new password.
///
/// # Errors
/// [`ApiError::FormField`].
pub fn new_password(page: &Page, text: Option<String>) -> Result<NewPassword, ApiError> {
    let password = NewPassword::try_from(text.unwrap_or_default());
    password.map_err(|_| ApiError::form_field(page.t("A password has 8 to 128 characters.")))
}

/// The current password.
///
/// # Errors
/// [`ApiError::FormField`].
pub fn password(page: &Page, text: Option<String>) -> Result<Password, ApiError> {
    let password = Password::try_from(text.unwrap_or_default());
    password.map_err(|_| ApiError::form_field(page.t("Enter your current password.")))
}

/// A code of the second factor; `None` if the field is empty or missing.
///
/// # Errors
/// [`ApiError::WrongCode`].
pub fn code(text: Option<String>) -> Result<Option<Code>, ApiError> {
    text.map(Code::try_from).transpose().map_err(|_| ApiError::WrongCode)
}
