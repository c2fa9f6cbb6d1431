//! The parameters in the address of a page, and addresses with other ones.

use super::error::{PageError, redirect};
use crate::control::http::extract::Query;
use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;

/// The parameter that says what was done before the page was shown.
const DONE: &str = "done";
/// The parameter with the position of a list.
const CURSOR: &str = "cursor";

/// The parameters of a page. Empty ones count as missing: the form of a filter sends all its fields.
pub struct PageQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for PageQuery<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        let given = parts.uri.clone();
        let filled = rewritten(given.path(), given.query(), |_, value| !value.is_empty(), None);
        parts.uri = filled.parse().unwrap_or_else(|_| Uri::from_static("/"));
        let read = Query::<T>::from_request_parts(parts, state).await;
        parts.uri = given;
        Ok(Self(read?.0))
    }
}

/// Links from one page of a list to others.
pub struct Pager {
    /// The first page, unless this is it.
    pub first: Option<String>,
    pub next: Option<String>,
}

impl Pager {
    /// The links of the page at `path` (with its query), which begins at `cursor`.
    #[must_use]
    pub fn new(path: &str, cursor: Option<&str>, next: Option<&str>) -> Self {
        Self {
            first: cursor.map(|_| at_cursor(path, None)),
            next: next.map(|next| at_cursor(path, Some(next))),
        }
    }

    /// False if the list fits this page.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.first.is_some() || self.next.is_some()
    }
}

/// The address `path` (with its query) of the same list from another position on; `None` = from its beginning.
#[must_use]
pub fn at_cursor(path: &str, cursor: Option<&str>) -> String {
    let (path, query) = split(path);
    let keeps = |name: &str, value: &str| name != CURSOR && name != DONE && !value.is_empty();
    rewritten(path, query, keeps, cursor.map(|cursor| (CURSOR, cursor)))
}

/// The address `path` (with its query) without what it says was done.
#[must_use]
pub fn without_done(path: &str) -> String {
    let (path, query) = split(path);
    rewritten(path, query, |name, _| name != DONE, None)
}

/// A redirect to `path` (with its query), which says by a word what was done.
#[must_use]
pub fn done(path: &str, word: &str) -> Response {
    let (path, query) = split(path);
    redirect(&rewritten(path, query, |name, _| name != DONE, Some((DONE, word))))
}

fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)))
}

fn rewritten(
    path: &str,
    query: Option<&str>,
    keeps: impl Fn(&str, &str) -> bool,
    more: Option<(&str, &str)>,
) -> String {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs.filter(|(name, value)| keeps(name, value)))
        .extend_pairs(more)
        .finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Filter {
        search: Option<String>,
        page: Option<u32>,
    }

    async fn read(uri: &str) -> Option<Filter> {
        let mut parts = axum::http::Request::get(uri).body(()).unwrap().into_parts().0;
        let read = PageQuery::<Filter>::from_request_parts(&mut parts, &()).await;
        assert_eq!(parts.uri, uri);
        read.ok().map(|read| read.0)
    }

    #[tokio::test]
    async fn empty_parameters_are_missing() {
        let filter =
            |search: Option<&str>, page| Some(Filter { search: search.map(str::to_owned), page });
        assert_eq!(read("/console").await, filter(None, None));
        assert_eq!(read("/console?search=&page=").await, filter(None, None));
        assert_eq!(read("/console?search=a+%26b&page=7").await, filter(Some("a &b"), Some(7)));
        for bad in ["/console?page=x", "/console?other=1", "/console?search=%00"] {
            assert_eq!(read(bad).await, None, "{bad}");
        }
    }

    #[test]
    fn addresses_keep_their_filters() {
        assert_eq!(at_cursor("/a?x=1&cursor=2&done=d&y=", Some("3&")), "/a?x=1&cursor=3%26");
        assert_eq!(at_cursor("/a?cursor=2", None), "/a");
        assert_eq!(without_done("/a?x=1&done=d"), "/a?x=1");
        let location = done("/a?x=%26&done=before", "after").headers()["location"].clone();
        assert_eq!(location, "/a?x=%26&done=after");
    }
}
