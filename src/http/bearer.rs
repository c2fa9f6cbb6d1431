//! The credential of `Authorization: Bearer ...`.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The `Authorization` header is repeated, not text, or has no credential. With two of them another
/// reader may take the one that this one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidAuthorization;

/// Returns the bearer credential of a request; `None` if there is none or another scheme is used.
///
/// # Errors
/// [`InvalidAuthorization`].
pub fn credential(headers: &HeaderMap) -> Result<Option<&str>, InvalidAuthorization> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(InvalidAuthorization);
    }
    let text = value.to_str().map_err(|_| InvalidAuthorization)?;
    match text.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => {
            let credential = credential.trim();
            if credential.is_empty() { Err(InvalidAuthorization) } else { Ok(Some(credential)) }
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn exactly_one_bearer_header_counts() {
        let check = |values: &[&str], expected: Result<Option<&str>, InvalidAuthorization>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(credential(&headers), expected, "{values:?}");
        };
        check(&[], Ok(None));
        check(&["Bearer abc"], Ok(Some("abc")));
        check(&["bearer  abc "], Ok(Some("abc")));
        check(&["Basic abc"], Ok(None));
        check(&["Bearer"], Ok(None));
        check(&["Bearer "], Err(InvalidAuthorization));
        check(&["Bearer a\u{e9}"], Err(InvalidAuthorization));
        check(&["Bearer a", "Bearer b"], Err(InvalidAuthorization));
    }
}
