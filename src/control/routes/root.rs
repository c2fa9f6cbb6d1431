//! Name, version and links of the gateway, and its OpenAPI document.

use crate::control::http::etag;
use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;

/// The gateway and links to its main routes.
#[derive(Serialize, ToSchema)]
pub struct About {
    #[schema(example = "KnockXPrime")]
    name: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    links: Links,
}

/// Paths of the main routes.
#[derive(Serialize, ToSchema)]
struct Links {
    chat_completions: &'static str,
    models: &'static str,
    register: &'static str,
    login: &'static str,
    usage: &'static str,
    plans: &'static str,
    health: &'static str,
    console: &'static str,
    openapi: &'static str,
}

/// The OpenAPI document of both planes.
#[derive(Clone)]
pub struct Description(Arc<OpenApi>);

impl Description {
    /// The document with the version of this build.
    #[must_use]
    pub fn of(mut document: OpenApi) -> Self {
        env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
        Self(Arc::new(document))
    }
}

/// Get name, version and links
///
/// A browser, which accepts HTML, is redirected to the console.
#[utoipa::path(get, path = "/", tag = "Health", responses((status = 200, body = About)))]
pub async fn root(headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if accepted.contains("text/html") {
        Redirect::to("/console/").into_response()
    } else {
        Json(about()).into_response()
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Get name, version and links
#[utoipa::path(get, path = "/api", tag = "Health", responses((status = 200, body = About)))]
pub async fn api() -> Json<About> {
    Json(about())
}

/// `GET /api/openapi.json`.
pub async fn openapi(
    State(Description(document)): State<Description>,
    headers: HeaderMap,
) -> Response {
    etag::respond(&headers, &*document)
}

fn about() -> About {
    About {
        name: "KnockXPrime",
        version: env!("CARGO_PKG_VERSION"),
        links: Links {
            chat_completions: "/v1/chat/completions",
            models: "/v1/models",
            register: "/api/v1/users/register",
            login: "/api/v1/users/login",
            usage: "/api/v1/chat/usage",
            plans: "/api/v1/plans/",
            health: "/health/",
            console: "/console/",
            openapi: "/api/openapi.json",
        },
    }
}
