//! Pages of lists: `?limit=` and `?cursor=` in the request, `data` and `next_cursor` in the reply.

use crate::control::api_error::ApiError;
use serde::Serialize;
use std::str::FromStr;
use utoipa::ToSchema;

/// Default number of entries per page.
const DEFAULT_LIMIT: u32 = 50;
/// Maximum number of entries per page.
pub const MAX_LIMIT: u32 = 200;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A list that fits one page.
    #[must_use]
    pub fn single(data: Vec<T>) -> Self {
        Self { data, next_cursor: None }
    }

    /// The first page of `rows`, which were queried with one more than `limit` to see if there is a next
    /// page.
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

/// The number of entries to return.
///
/// # Errors
/// Outside of 1 to 200.
pub fn limit(requested: Option<u32>) -> Result<u32, ApiError> {
    match requested.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        limit => Err(ApiError::invalid(
            "limit",
            format!("`limit` must be between 1 and {MAX_LIMIT}, but is {limit}."),
        )),
    }
}

/// The position at which a page begins. A cursor encodes a position in the order and nothing else: the
/// owner of the list comes from the request's credential.
///
/// # Errors
/// The text is not a cursor.
pub fn cursor<T: FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let read = |text: &str| {
        text.parse().map_err(|_| {
            ApiError::invalid(
                "cursor",
                "`cursor` is not valid. Use the `next_cursor` of the previous page.",
            )
        })
    };
    text.map(read).transpose()
}
