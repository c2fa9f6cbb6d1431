//! What a form has done, where it takes more than a known word to say so: a sentence in the address of the page
//! that follows. It is signed with the token of the session, so that no link can put words into a page.

use super::error::redirect;
use super::page::Page;
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

/// The parameters of a page that can show a notice. Text of another session or of another page is not shown.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoticeQuery {
    /// The word for what was done, of pages that have such words.
    pub done: Option<String>,
    notice: String,
    /// True if the notice is a failure.
    failed: bool,
    signature: String,
}

/// A sentence at the top of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub failed: bool,
    pub sentence: String,
}

/// Leads to `path`, which shows `notice`.
#[must_use]
pub fn noticed(page: &Page, path: &str, notice: &Notice) -> Response {
    let signature = signature(page, path, notice);
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("notice", &notice.sentence)
        .append_pair("failed", if notice.failed { "true" } else { "false" })
        .append_pair("signature", &signature)
        .finish();
    redirect(&format!("{path}?{query}"))
}

impl NoticeQuery {
    /// The notice for the page at `path`, if this session got it.
    #[must_use]
    pub fn read(self, page: &Page, path: &str) -> Option<Notice> {
        let notice = Notice { failed: self.failed, sentence: self.notice };
        let is_ours = !page.csrf.is_empty() && signature(page, path, &notice) == self.signature;
        is_ours.then_some(notice)
    }
}

fn signature(page: &Page, path: &str, notice: &Notice) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(page.csrf.as_bytes()) else {
        return String::new();
    };
    mac.update(path.as_bytes());
    mac.update(&[0, u8::from(notice.failed)]);
    mac.update(notice.sentence.as_bytes());
    BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()[..18])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(csrf: &str, path: &str, location: &str) -> Option<Notice> {
        let query = location.split_once('?').unwrap().1;
        let query: NoticeQuery = serde_urlencoded::from_str(query).unwrap();
        query.read(&Page { csrf: csrf.to_owned(), ..Page::default() }, path)
    }

    #[test]
    fn a_notice_is_shown_to_its_session_on_its_page() {
        let page = Page { csrf: "token".to_owned(), ..Page::default() };
        let notice = Notice { failed: true, sentence: "xai & co: 3 ms".to_owned() };
        let location = noticed(&page, "/console/a", &notice).headers()["location"].clone();
        let location = location.to_str().unwrap();
        assert_eq!(read("token", "/console/a", location), Some(notice));
        assert_eq!(read("other", "/console/a", location), None);
        assert_eq!(read("", "/console/a", location), None);
        assert_eq!(read("token", "/console/b", location), None);
        assert_eq!(read("token", "/console/a", &location.replace("co", "so")), None);
        assert_eq!(read("token", "/console/a", &location.replace("true", "false")), None);
        assert_eq!(read("token", "/console/a", "/console/a?"), None);
    }
}
