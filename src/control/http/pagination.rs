//! Lists in pages: `?limit=` and `?cursor=` in, `data` and `next_cursor` out.

use crate::control::api_error::ApiError;
use serde::Serialize;
use std::str::FromStr;
use utoipa::ToSchema;

/// Entries of a page unless asked otherwise.
const DEFAULT_LIMIT: u32 = 50;
/// The most.
pub const MAX_LIMIT: u32 = 200;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// To be sent as `cursor` for the next page; `null` = this was the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A list that is never cut.
    #[must_use]
    pub fn single(data: Vec<T>) -> Self {
        Self { data, next_cursor: None }
    }

    /// Of `rows`, asked for with one more than `limit`: that one only tells that there is more.
    #[must_use]
    pub fn of<R>(
        mut rows: Vec<R>,
        limit: u32,
        cursor: impl FnOnce(&R) -> String,
        view: impl FnMut(R) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(cursor);
        Self { data: rows.into_iter().map(view).collect(), next_cursor }
    }
}

/// How many entries to show.
///
/// # Errors
/// Outside of 1 to 200.
pub fn limit(requested: Option<u32>) -> Result<u32, ApiError> {
    match requested.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(ApiError::invalid("limit", format!("`limit` is 1 to {MAX_LIMIT}."))),
    }
}

/// Where a page goes on. A cursor names a place in the order and nothing else: whose list it is, the
/// request says.
///
/// # Errors
/// When it is none of ours.
pub fn cursor<T: FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let read = |text: &str| {
        text.parse().map_err(|_| ApiError::invalid("cursor", "`cursor` is none of ours."))
    };
    text.map(read).transpose()
}
