//! Language and theme, which every visitor may choose. Kept in cookies of the browser.

use crate::console::error::{PageError, redirect, safe_next};
use crate::console::forms::SafeForm;
use crate::console::page::{LANGUAGE_COOKIE, THEME_COOKIE, Theme};
use crate::console::session::Visitor;
use crate::mail::message::Language;
use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use axum::response::Response;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    language: Option<String>,
    theme: Option<String>,
    next: Option<String>,
}

/// `POST /console/preferences`.
pub async fn change(
    visitor: Visitor,
    SafeForm(form): SafeForm<Preferences>,
) -> Result<Response, PageError> {
    let mut response = redirect(safe_next(form.next.as_deref()));
    let secure = if visitor.context.over_tls { "; Secure" } else { "" };
    let language = form.language.as_deref().and_then(Language::of_tag).map(Language::tag);
    let theme = form.theme.as_deref().and_then(Theme::named).map(Theme::name);
    let chosen = [(LANGUAGE_COOKIE, language), (THEME_COOKIE, theme)];
    for (name, value) in chosen.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        let cookie = format!(
            "{name}={value}; Path=/console; HttpOnly; SameSite=Lax; Max-Age=31536000{secure}"
        );
        let cookie = HeaderValue::try_from(cookie).ok().map(|cookie| (SET_COOKIE, cookie));
        if let Some((name, value)) = cookie {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}
