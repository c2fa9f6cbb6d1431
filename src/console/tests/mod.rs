//! Pages as a browser gets them, over a real store and real counters.

mod access;
mod account;
mod auditor;
mod announcements;
mod links;
mod admin;
mod second_factor;
mod sign_in;
mod headers;
mod forms;
mod notices;
mod routes;
mod keys;
mod usage;
mod plans;
mod playground;

use crate::control::tests::{Control, PASSWORD, Reply, control, raw};
use axum::body::Body;
use axum::http::StatusCode;
use domain::refresh_token::RefreshToken;
use jiff::ToSpan;
use system::clock;

/// A browser: it keeps cookies, and sends forms with the token of the page it has read.
#[derive(Clone)]
pub struct Browser<'a> {
    control: &'a Control,
    pub cookies: Vec<(String, String)>,
    /// The token in the forms of the last page.
    csrf: String,
    /// The id of the forms of the last page that work once; empty if it has none.
    form_id: String,
    pub headers: Vec<(&'static str, String)>,
}

const HOST: &str = "kx.example:8000";
const ORIGIN: &str = "http://kx.example:8000";

impl<'a> Browser<'a> {
    pub fn new(control: &'a Control) -> Self {
        let headers = vec![("host", HOST.to_owned())];
        Self { control, cookies: Vec::new(), csrf: String::new(), form_id: String::new(), headers }
    }

    /// A browser in which the user with this e-mail address is logged in.
    pub async fn logged_in(control: &'a Control, email: &str) -> Self {
        let mut browser = Self::new(control);
        browser.get("/console/login").await;
        let reply =
            browser.post("/console/login", &[("email", email), ("password", PASSWORD)]).await;
        assert_eq!((reply.status, reply.header("location")), (StatusCode::SEE_OTHER, "/console"));
        browser
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        let reply = self.send("GET", path, Vec::new(), Body::empty()).await;
        let field = |name: &str| {
            let start = format!("name=\"{name}\" value=\"");
            let (_, rest) = reply.text.split_once(&start)?;
            rest.split('"').next().map(str::to_owned)
        };
        if let Some(csrf) = field("csrf") {
            self.csrf = csrf;
            self.form_id = field("form_id").unwrap_or_default();
        }
        reply
    }

    /// Sends a form as a page of the console does.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let origin = ("origin", ORIGIN.to_owned());
        let csrf = self.csrf.clone();
        let fields: Vec<_> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        self.post_from(origin, path, &fields).await
    }

    /// Lets the time pass during which sensitive changes need no password.
    pub async fn expire_confirmation(&self) {
        let cookie = self.cookies.iter().find(|(name, _)| name == "kx").map(|(_, value)| value);
        let session = RefreshToken::parse(cookie.unwrap()).unwrap().session();
        let before = clock::now().checked_sub(16.minutes()).unwrap();
        self.control.store.confirm_session(session, before).await.unwrap();
    }

    /// Sends a form with exactly these fields and this header.
    pub async fn post_from(
        &mut self,
        header: (&'static str, String),
        path: &str,
        fields: &[(&str, &str)],
    ) -> Reply {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let kind = ("content-type", "application/x-www-form-urlencoded".to_owned());
        self.send("POST", path, vec![header, kind], Body::from(form)).await
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        more: Vec<(&'static str, String)>,
        body: Body,
    ) -> Reply {
        let mut headers = self.headers.clone();
        headers.extend(more);
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            headers.push(("cookie", cookies.join("; ")));
        }
        let reply = raw(&self.control.router, method, path, &headers, None, body).await;
        for value in reply.headers.get_all("set-cookie") {
            let pair = value.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        reply
    }
}
