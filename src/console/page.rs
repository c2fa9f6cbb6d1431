//! What every page has: language, theme, the account and the path, for the layout.

use super::assets;
use super::forms;
use super::session::session_cookie;
use crate::control::http::middleware::RequestContext;
use crate::control::views::announcement::AnnouncementView;
use crate::mail::message::Language;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_LANGUAGE, COOKIE};
use axum::http::request::Parts;
use domain::key::Pepper;
use domain::user::Role;
use std::fmt::Display;
use std::sync::Arc;

/// The cookie with the language that a person chose.
pub const LANGUAGE_COOKIE: &str = "kx_lang";
/// The cookie with the theme that a person chose.
pub const THEME_COOKIE: &str = "kx_theme";

/// Paths and names of the pages of every account. Each name is a text of [`super::texts`].
const NAVIGATION: &[(&str, &str)] = &[
    ("/console", text("Overview")),
    ("/console/keys", text("Keys")),
    ("/console/usage", text("Usage")),
    ("/console/playground", text("Playground")),
    ("/console/plans", text("Plans")),
    ("/console/account", text("Account")),
];

/// The first of the admin pages; the others are below it.
const ADMIN_PATH: &str = "/console/admin";

/// Paths and names of the pages of admins.
const ADMIN_NAVIGATION: &[(&str, &str)] = &[
    (ADMIN_PATH, text("All users")),
    ("/console/admin/users", text("Users")),
    ("/console/admin/keys", text("Find a key")),
    ("/console/admin/usage", text("Usage of all users")),
    ("/console/admin/plans", text("Plans")),
    ("/console/admin/upgrades", text("Plan requests")),
    ("/console/admin/models", text("Models and prices")),
    ("/console/admin/upstreams", text("Upstreams")),
    ("/console/admin/system", text("System")),
    ("/console/admin/announcements", text("Announcements")),
    ("/console/admin/audit", text("Audit")),
];

/// Marks a text that is translated where it is shown.
#[must_use]
pub const fn text(english: &'static str) -> &'static str {
    english
}

/// The colours of the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the operating system has it.
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// The theme with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "system" => Some(Self::System),
            "light" => Some(Self::Light),
            "dark" => Some(Self::Dark),
            _ => None,
        }
    }

    /// The value of the attribute `data-theme`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The account whose pages are shown.
#[derive(Debug, Clone)]
pub struct Account {
    pub email: String,
    pub role: Role,
}

/// What the layout shows around a page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub language: Language,
    pub theme: Theme,
    /// The path of the page, with its query.
    pub path: String,
    pub account: Option<Account>,
    /// Announcements to logged-in users.
    pub announcements: Arc<Vec<AnnouncementView>>,
    /// The token that every form of the page sends back; empty without a session cookie.
    pub csrf: String,
    /// The id of this rendering, in the forms that work once: see [`super::form_results`].
    pub form_id: String,
    /// The address of the gateway as this browser sees it, without a slash at its end.
    pub origin: String,
}

impl Page {
    /// The page of a request. The account is added by [`super::session`].
    #[must_use]
    pub fn of(parts: &Parts, over_tls: bool, pepper: &Pepper) -> Self {
        let headers = &parts.headers;
        let language = cookie(headers, LANGUAGE_COOKIE).and_then(Language::of_tag);
        let path = parts.uri.path_and_query().map_or("/console", |path| path.as_str());
        let scheme = if over_tls { "https" } else { "http" };
        Self {
            language: language.unwrap_or_else(|| accepted_language(headers)),
            theme: cookie(headers, THEME_COOKIE).and_then(Theme::named).unwrap_or_default(),
            path: path.to_owned(),
            form_id: RequestContext::of(&parts.extensions).request_id(),
            origin: format!("{scheme}://{}", forms::host(parts).unwrap_or("localhost")),
            csrf: session_cookie(headers, over_tls)
                .map(|cookie| forms::csrf_token(pepper, cookie))
                .unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The text in the language of the page.
    #[must_use]
    pub fn t<'a>(&self, english: &'a str) -> &'a str {
        self.language.t(english)
    }

    /// The text in the language of the page, with each `{}` replaced by the next value.
    #[must_use]
    pub fn fill(&self, english: &str, values: &[&dyn Display]) -> String {
        self.language.fill(english, values)
    }

    /// The path of a file of `assets/console`.
    #[must_use]
    pub fn asset(&self, file: &str) -> &'static str {
        assets::path(file)
    }

    /// True if the page is `path` or below it; the overview is below nothing.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        let here = self.path.split('?').next().unwrap_or_default().trim_end_matches('/');
        let below = here.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        here == path || (below && path != "/console" && path != ADMIN_PATH)
    }

    /// The pages of every account: their paths and names.
    #[must_use]
    pub fn navigation(&self) -> &'static [(&'static str, &'static str)] {
        NAVIGATION
    }

    /// The pages of admins.
    #[must_use]
    pub fn admin_navigation(&self) -> &'static [(&'static str, &'static str)] {
        ADMIN_NAVIGATION
    }

    /// True if the account may see the admin pages.
    #[must_use]
    pub fn sees_admin_pages(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.role.may_read_all())
    }

    /// True if the account may change something on the admin pages. Without it, they have no forms of changes.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.role.may_change_all())
    }

    /// True if this is an admin page, of which the account sees everything and changes nothing.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let here = self.path.split('?').next().unwrap_or_default();
        let below = here.strip_prefix(ADMIN_PATH);
        let is_admin_page = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        is_admin_page && self.sees_admin_pages() && !self.may_change()
    }
}

/// The language that the browser prefers.
fn accepted_language(headers: &HeaderMap) -> Language {
    Language::accepted(headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()))
}

/// The value of a cookie.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim(), value.trim()))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; kx_theme=dark".parse().unwrap());
        headers.append(COOKIE, "xkx_lang=en; kx_lang=zh".parse().unwrap());
        assert_eq!(cookie(&headers, THEME_COOKIE), Some("dark"));
        assert_eq!(cookie(&headers, LANGUAGE_COOKIE), Some("zh"));
        assert_eq!(cookie(&headers, "kx"), None);
    }

    #[test]
    fn navigation_marks_the_page_and_what_is_below_it() {
        let at = |path: &str| Page { path: path.to_owned(), ..Page::default() };
        for (path, entry, expected) in [
            ("/console/", "/console", true),
            ("/console?x=1", "/console", true),
            ("/console/keys", "/console", false),
            ("/console/keys/abc?x", "/console/keys", true),
            ("/console/keysmith", "/console/keys", false),
            ("/console/admin/users", "/console/admin", false),
        ] {
            assert_eq!(at(path).is_at(entry), expected, "{path} {entry}");
        }
    }
}
