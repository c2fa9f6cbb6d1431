//! Style sheet, scripts and icon, compiled in. Their names hold a hash of the content, so browsers keep them
//! for ever.

use super::error::PageError;
use crate::control::http::extract::PathParam;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// A file of `assets/console`.
struct Asset {
    /// The name in `assets/console`.
    file: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

const ASSETS: [Asset; 5] = [
    Asset {
        file: "console.css",
        content_type: "text/css; charset=utf-8",
        body: include_bytes!("../../assets/console/console.css"),
    },
    Asset {
        file: "console.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("../../assets/console/console.js"),
    },
    Asset {
        file: "playground.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("../../assets/console/playground.js"),
    },
    Asset {
        file: "htmx.min.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("../../assets/console/htmx.min.js"),
    },
    Asset {
        file: "icon.svg",
        content_type: "image/svg+xml",
        body: include_bytes!("../../assets/console/icon.svg"),
    },
];

/// The paths of [`ASSETS`], in their order.
static PATHS: LazyLock<[String; ASSETS.len()]> = LazyLock::new(|| {
    ASSETS.each_ref().map(|asset| {
        let hash = HEXLOWER.encode(&Sha256::digest(asset.body)[..6]);
        let (stem, kind) = asset.file.rsplit_once('.').unwrap_or((asset.file, ""));
        format!("/console/assets/{stem}-{hash}.{kind}")
    })
});

/// The path of a file of `assets/console`; empty if there is none of this name.
#[must_use]
pub fn path(file: &str) -> &'static str {
    let position = ASSETS.iter().position(|asset| asset.file == file);
    position.and_then(|position| PATHS.get(position)).map_or("", String::as_str)
}

/// `GET /console/assets/{file}`.
pub async fn serve(PathParam(file): PathParam) -> Result<Response, PageError> {
    let mut all = PATHS.iter().zip(&ASSETS);
    let named = |path: &str| path.rsplit('/').next() == Some(file.as_str());
    let Some((_, asset)) = all.find(|(path, _)| named(path)) else {
        return Err(PageError::not_found());
    };
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(asset.content_type)), (CACHE_CONTROL, FOR_EVER)];
    Ok((headers, asset.body).into_response())
}
