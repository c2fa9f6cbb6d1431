//! Replies as CSV (RFC 4180), which people open in spreadsheets.

use crate::control::api_error::ApiError;
use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};

/// Makes a cell of words that a user chose. Spreadsheets take a text that begins with `=`, `+`, `-` or `@` for a
/// formula and run it: an apostrophe before it makes it text. Numbers need none.
#[must_use]
pub fn text_cell(words: &str) -> String {
    let is_formula = words.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{words}") } else { words.to_owned() }
}

/// The records as CSV.
///
/// # Errors
/// The records have different numbers of fields.
pub fn written<R, F>(records: R) -> Result<Vec<u8>, ApiError>
where
    R: IntoIterator<Item = F>,
    F: IntoIterator,
    F::Item: AsRef<[u8]>,
{
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in records {
        writer.write_record(record).map_err(|_| ApiError::Internal)?;
    }
    writer.into_inner().map_err(|_| ApiError::Internal)
}

/// A reply with this CSV, to be saved as `file`.
pub fn reply(body: Body, file: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    let saved_as = HeaderValue::try_from(format!("attachment; filename=\"{file}\""));
    headers.extend(saved_as.ok().map(|value| (CONTENT_DISPOSITION, value)));
    response
}

/// The same request for the next page, as RFC 8288 names it.
#[must_use]
pub fn next_link(uri: &Uri, cursor: &str) -> Option<(HeaderName, HeaderValue)> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs.filter(|(name, _)| name != "cursor"))
        .append_pair("cursor", cursor)
        .finish();
    let link = format!("<{}?{query}>; rel=\"next\"", uri.path());
    HeaderValue::try_from(link).ok().map(|value| (LINK, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (words, cell) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("ada@example.com", "ada@example.com"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(text_cell(words), cell);
        }
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let csv = written([["a", "b"], ["1,2", "say \"hi\"\n"]]).unwrap();
        assert_eq!(String::from_utf8(csv).unwrap(), "a,b\n\"1,2\",\"say \"\"hi\"\"\n\"\n");
        assert!(written([vec!["a"], vec!["b", "c"]]).is_err());
    }
}
