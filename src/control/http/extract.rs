//! Extractors for bodies, query parameters and path parameters. Their errors name the field.

use super::middleware::BODY_BYTES;
use crate::control::api_error::ApiError;
use crate::mail::message::Language;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

/// Maximum number of characters of the input that an error message repeats.
const MAX_ECHO: usize = 400;

/// A JSON body.
pub struct JsonBody<T>(pub T);

/// A value that must be a JSON object. Without this, serde would also accept a list of its fields.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

/// The query parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|_| ApiError::BodyTooLarge { limit: BODY_BYTES })?;
        // Checked as JSON first: malformed JSON has another error code than a wrong value.
        serde_json::from_slice::<IgnoredAny>(&body)
            .map_err(|e| ApiError::MalformedJson(e.to_string()))?;
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let form: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
        form.map(|form| Self(form.0)).map_err(|e| invalid(&e.path().to_string(), e.inner()))
    }
}

/// The language in which a mail answers the request, by its `Accept-Language`.
pub struct PreferredLanguage(pub Language);

impl<S: Send + Sync> FromRequestParts<S> for PreferredLanguage {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let header = parts.headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Ok(Self(Language::accepted(header)))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        query(&parts.uri).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        reader.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A path parameter. One that is not UTF-8, or has control characters, matches no route.
pub struct PathParam(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathParam {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::RouteNotFound)?;
        if text.contains(char::is_control) {
            return Err(ApiError::RouteNotFound);
        }
        Ok(Self(text))
    }
}

/// Two path parameters in their order; see [`PathParam`].
pub struct PathParams(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::RouteNotFound)?;
        if [&first, &second].iter().any(|text| text.contains(char::is_control)) {
            return Err(ApiError::RouteNotFound);
        }
        Ok(Self(first, second))
    }
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    // No parameter needs control characters, and Postgres rejects NUL.
    if let Some((name, _)) = pairs.clone().find(|(_, value)| value.contains(char::is_control)) {
        return Err(ApiError::invalid(
            &name,
            format!("`{name}` must not contain control characters."),
        ));
    }
    let reader = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(reader).map_err(|e| invalid(&e.path().to_string(), e.inner()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// The error of a field. serde reports the path of a wrong value; for a missing, unknown or repeated field
/// it names the field itself in backticks.
fn invalid(path: &str, error: &impl std::fmt::Display) -> ApiError {
    let message = error.to_string();
    let problem = message.split(" at line ").next().unwrap_or_default().to_owned();
    let is_of_field = ["unknown field", "missing field", "duplicate field"]
        .iter()
        .any(|start| problem.starts_with(start));
    let named = problem.split('`').nth(1).filter(|_| is_of_field).unwrap_or_default();
    let path = if path == "." { "" } else { path };
    let param = match (path, named) {
        (path, "") => path.to_owned(),
        ("", named) => named.to_owned(),
        // The path may already end with the field.
        (path, named) if path == named || path.ends_with(&format!(".{named}")) => path.to_owned(),
        (path, named) => format!("{path}.{named}"),
    };
    // The input is repeated only as far as it helps to find the mistake.
    let (param, problem) = (shortened(param), shortened(plain(&problem)));
    let subject =
        if param.is_empty() { "The request body".to_owned() } else { format!("`{param}`") };
    ApiError::InvalidValue { problem: format!("{subject}: {problem}."), param }
}

/// serde's message without the names of Rust types.
fn plain(problem: &str) -> String {
    if problem.starts_with("data did not match any variant") {
        return "the value has none of the accepted forms".to_owned();
    }
    let Some((found, expected)) = problem.rsplit_once(", expected ") else {
        return problem.to_owned();
    };
    let word = expected.split_whitespace().next().unwrap_or_default();
    let expected = match word {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "nonzero" => "a non-negative integer",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        "bool" => "a boolean",
        "str" | "string" | "char" => "a string",
        "struct" | "map" | "internally" | "adjacently" => "an object",
        "tuple" | "sequence" => "a list",
        "enum" | "variant" | "unit" | "newtype" => "one of the accepted values",
        _ if expected.starts_with("a nonzero ") => "a positive integer",
        _ if expected.starts_with("a sequence") => "a list",
        _ if expected.starts_with("a map") => "an object",
        _ => expected,
    };
    format!("{found}, expected {expected}")
}

/// The text, cut after [`MAX_ECHO`] characters.
fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the refusals matter")]
    struct Fields {
        count: Option<u64>,
        small: Option<i8>,
        share: Option<f64>,
        is_on: Option<bool>,
        list: Option<Vec<u32>>,
        inner: Option<Box<Fields>>,
        word: Option<Word>,
        form: Option<Form>,
        positive: Option<std::num::NonZeroU32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Yes,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only the refusals matter")]
    enum Form {
        Number(u64),
    }

    #[test]
    fn no_refusal_names_a_type_of_the_program() {
        for json in [
            r#"{"count":"x"}"#,
            r#"{"count":-1}"#,
            r#"{"count":1.5}"#,
            r#"{"small":900}"#,
            r#"{"share":"x"}"#,
            r#"{"is_on":1}"#,
            r#"{"list":{"a":1}}"#,
            r#"{"list":[-1]}"#,
            r#"{"inner":[1]}"#,
            r#"{"inner":"x"}"#,
            r#"{"word":7}"#,
            r#"{"word":"no"}"#,
            r#"{"form":"x"}"#,
            r#"{"positive":0}"#,
        ] {
            let error = serde_json::from_str::<Fields>(json).unwrap_err();
            let ApiError::InvalidValue { problem, .. } = invalid("x", &error) else {
                panic!("{json}")
            };
            let types = [
                "u64",
                "u32",
                "i8",
                "f64",
                "bool,",
                "struct ",
                "Fields",
                "Form",
                "NonZero",
                "Word",
                "variant of",
            ];
            assert!(!types.iter().any(|name| problem.contains(name)), "{json}: {problem}");
        }
    }
}
