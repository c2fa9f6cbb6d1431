//! Forms of pages: where they come from, and what they hold.

use super::error::PageError;
use super::form_results::FORM_FIELD;
use super::session::session_cookie;
use crate::control::api_error::ApiError;
use crate::control::http::middleware::{BODY_BYTES, RequestContext};
use crate::control::state::ControlState;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName};
use data_encoding::BASE64URL_NOPAD;
use domain::key::Pepper;
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The field of a form that holds the token of the session.
const CSRF_FIELD: &str = "csrf";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A form that was sent from a page of the same session.
pub struct SafeForm<T>(pub T);

impl<T: DeserializeOwned> FromRequest<ControlState> for SafeForm<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &ControlState) -> Result<Self, PageError> {
        let (parts, body) = request.into_parts();
        if !is_form(&parts.headers) {
            return Err(ApiError::UnsupportedMediaType.into());
        }
        let over_tls = RequestContext::of(&parts.extensions).over_tls;
        let expected = session_cookie(&parts.headers, over_tls)
            .map(|cookie| csrf_token(&state.pepper, cookie));
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let body = body.map_err(|_| ApiError::BodyTooLarge { limit: BODY_BYTES })?;
        read(&body, expected.as_deref()).map(Self)
    }
}

/// The form in `body`. Empty fields count as missing.
fn read<T: DeserializeOwned>(body: &[u8], token: Option<&str>) -> Result<T, PageError> {
    let pairs: Vec<_> = form_urlencoded::parse(body).collect();
    let sent = pairs.iter().find(|(name, _)| name == CSRF_FIELD).map(|(_, value)| value.as_bytes());
    if let Some(expected) = token {
        let is_same = sent.is_some_and(|sent| bool::from(sent.ct_eq(expected.as_bytes())));
        if !is_same {
            return Err(PageError::CrossSite);
        }
    }
    let has_control = |value: &str| value.chars().any(|c| c.is_control() && c != '\n' && c != '\r');
    if let Some((name, _)) = pairs.iter().find(|(_, value)| has_control(value)) {
        let problem = format!("`{name}` must not contain control characters.");
        return Err(ApiError::invalid(name, problem).into());
    }
    let fields = pairs.iter().filter(|(name, value)| {
        !matches!(name.as_ref(), CSRF_FIELD | FORM_FIELD) && !value.is_empty()
    });
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields.map(|(name, value)| (name.as_ref(), value.as_ref())))
        .finish();
    let reader = serde_html_form::Deserializer::new(form_urlencoded::parse(form.as_bytes()));
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let field = error.path().to_string();
        let problem = error.inner().to_string();
        let named = if field == "." { problem } else { format!("`{field}`: {problem}.") };
        ApiError::invalid(&field, named).into()
    })
}

/// The token that the forms of a session send back. It is made from the session's cookie, which no other site
/// can read.
#[must_use]
pub fn csrf_token(pepper: &Pepper, cookie: &str) -> String {
    let key = pepper.derived(b"console forms");
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return String::new() };
    mac.update(cookie.as_bytes());
    let digest = mac.finalize().into_bytes();
    BASE64URL_NOPAD.encode(&digest[..18])
}

/// True if the request was sent by a page of this gateway: by `Origin`, which browsers send with every form and
/// which scripts cannot set. A request without it is refused unless the browser says that it is our own.
#[must_use]
pub fn is_same_origin(parts: &Parts, over_tls: bool) -> bool {
    let site = parts.headers.get(SEC_FETCH_SITE).and_then(|value| value.to_str().ok());
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => {
            let origin = origin.to_str().unwrap_or_default();
            let (scheme, named) = origin.split_once("://").unwrap_or_default();
            let is_scheme = if over_tls { scheme == "https" } else { scheme == "http" };
            is_scheme && host(parts).is_some_and(|host| host.eq_ignore_ascii_case(named))
        }
        (None, _) => site == Some("same-origin"),
        (Some(_), Some(_)) => false,
    }
}

/// The host and port that the request names.
#[must_use]
pub fn host(parts: &Parts) -> Option<&str> {
    let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| parts.uri.authority().map(Authority::as_str))
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Form {
        name: String,
        count: Option<u64>,
        #[serde(default)]
        models: Vec<String>,
    }

    fn read_form(body: &str, token: Option<&str>) -> Result<Form, PageError> {
        read(body.as_bytes(), token)
    }

    #[test]
    fn fields_are_read_and_empty_ones_are_missing() {
        let form =
            read_form("csrf=t&form_id=7&name=a+b&count=&models=x&models=y", Some("t")).unwrap();
        let models = vec!["x".to_owned(), "y".to_owned()];
        assert_eq!(form, Form { name: "a b".to_owned(), count: None, models });
        assert_eq!(read_form("name=a&count=7", None).unwrap().count, Some(7));
        for bad in ["count=7", "name=a&count=x", "name=a&other=1", "name=a%00"] {
            let refused = read_form(bad, None);
            assert!(matches!(refused, Err(PageError::Api(ApiError::InvalidValue { .. }))), "{bad}");
        }
    }

    #[test]
    fn a_form_of_a_session_needs_its_token() {
        let pepper = Pepper::new(b"secret");
        let token = csrf_token(&pepper, "one");
        assert_ne!(token, csrf_token(&pepper, "other"));
        assert_ne!(token, csrf_token(&Pepper::new(b"new"), "one"));
        assert!(read_form(&format!("name=a&csrf={token}"), Some(&token)).is_ok());
        for wrong in ["name=a", "name=a&csrf=", "name=a&csrf=x", &format!("name=a&csrf={token}x")] {
            assert!(matches!(read_form(wrong, Some(&token)), Err(PageError::CrossSite)), "{wrong}");
        }
    }

    #[test]
    fn only_our_own_origin_may_send_forms() {
        let request = |headers: &[(&str, &str)]| {
            let mut request = axum::http::Request::post("/console/login");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(()).unwrap().into_parts().0
        };
        let host = ("host", "kx.example:8000");
        let ours = ("origin", "http://kx.example:8000");
        for (headers, over_tls, expected) in [
            (vec![host, ours], false, true),
            (vec![host, ours, ("sec-fetch-site", "same-origin")], false, true),
            (vec![host, ("sec-fetch-site", "same-origin")], false, true),
            (vec![host, ("origin", "https://kx.example:8000")], true, true),
            (vec![host], false, false),
            (vec![host, ours], true, false),
            (vec![host, ours, ("sec-fetch-site", "same-site")], false, false),
            (vec![host, ours, ours], false, false),
            (vec![host, ("origin", "null")], false, false),
            (vec![host, ("origin", "http://kx.example")], false, false),
            (vec![host, ("origin", "http://evil.example")], false, false),
            (vec![ours], false, false),
        ] {
            assert_eq!(is_same_origin(&request(&headers), over_tls), expected, "{headers:?}");
        }
    }
}
