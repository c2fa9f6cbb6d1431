//! The router as its callers see it, over a real store and real counters.

mod access;
mod account_links;
mod first_admin;
mod invitations;
mod accounts;
mod admins;
mod announcements;
mod attacks;
mod auditor;
mod calls;
mod second_factor;
mod sessions;
mod deletion;
mod openapi;
mod operations;
mod history;
mod keys;
mod plans;
mod middleware;
mod usage_of_all;
pub(crate) mod openid_provider;

use super::admin_port::{self, AdminState};
use super::auth::identity::Identity;
use super::health::{self, Phase, Readiness};
use super::state::{ControlState, EdgeConfig, InstanceInfo};
use super::*;
use crate::callers::cache::CallerCache;
use crate::config::{self, Config};
use crate::links::Links;
use crate::mail::{Job, Mailer};
use crate::upstream::Upstreams;
use arc_swap::ArcSwap;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use domain::actor::AuditContext;
use domain::charge::{Charge, Status, TokenCount};
use domain::day::Day;
use domain::id::{KeyId, PlanId, RequestId, SessionId, UserId};
use domain::key::{KeyLimits, Pepper, PlainKey};
use domain::password;
use domain::user::{Role, User};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use journal::Journal;
use journal::disk::Folder;
use journal::log::LogSettings;
use quota::backend::QuotaBackend;
use quota::memory::MemoryQuota;
use quota::user_versions::UserVersions;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use store::Store;
use store::{self, Entry, NewKey, NewUser};
use system::clock;
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const SECRET: &[u8] = b"a pepper for tests";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A control plane, and what tests need beside it.
pub(crate) struct Control {
    pub(crate) router: Router,
    pub(crate) admin_port: Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) quota: Arc<dyn QuotaBackend>,
    pub(crate) readiness: Readiness,
    /// Mails that wait to be sent.
    pub(crate) mails: tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Job>>,
    pub(crate) links: Arc<Links>,
    pub(crate) instance: Arc<InstanceInfo>,
    pub(crate) _folder: tempfile::TempDir,
}

/// A request to the control plane.
#[derive(Default)]
pub(crate) struct Ask<'a> {
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: Option<Value>,
    pub(crate) from: Option<&'a str>,
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// A user with a session.
pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) token: String,
    pub(crate) refresh: String,
}

impl Person {
    /// The session of the first tokens.
    fn session(&self) -> SessionId {
        domain::refresh_token::RefreshToken::parse(&self.refresh).unwrap().session()
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e} in {:?}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        let found = (self.status.as_u16(), self.code());
        assert_eq!(found, (status, code.to_owned()), "{}", self.text);
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{error}");
        assert!(error["type"].is_string() && error.get("param").is_some(), "{error}");
        assert_eq!(self.headers.contains_key("www-authenticate"), status == 401);
    }

    #[track_caller]
    fn invalid(&self, param: &str) {
        self.refused(422, "invalid_value");
        assert_eq!(self.json()["error"]["param"], param, "{}", self.text);
    }
}

fn configured(more: &str) -> Config {
    // With a key, the models of the default configuration can be called.
    let key = BTreeMap::from([("GROK_API_KEY".to_owned(), "xai-fake".to_owned())]);
    config::load_from(Some(("test.toml", more)), &key).unwrap()
}

/// The configuration of an upstream `mine` with the model `grok-4.3`.
pub(crate) fn configured_upstream(base_url: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"mine\"\nbase_url = \"{base_url}\"\napi_key = \"hunter2-key\"\n\
         [[models]]\nid = \"grok-4.3\"\nupstreams = [{{ name = \"mine\" }}]\ncontext_tokens = 1000000\n\
         prices = {{ input = 1.25, cached_input = 0.20, output = 2.50 }}\nowned_by = \"xai\"\n"
    )
}

pub(crate) async fn control() -> Control {
    control_with("", None).await
}

/// A control plane with `more` in its configuration, and these counters instead of its own.
pub(crate) async fn control_with(more: &str, quota: Option<Arc<dyn QuotaBackend>>) -> Control {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("k.db").display());
    let mut config = configured(more);
    let database = BTreeMap::from([("DATABASE_URL".to_owned(), url)]);
    config.database = config::load_from(None, &database).unwrap().database;
    let store = store::open(&config.database).await.unwrap();
    store.sync_plans(&config.plans, &AuditContext::gateway(clock::now())).await.unwrap();
    let metrics = Arc::new(Metrics::new(&[], &[]));
    let journal = journal(&store, &metrics, folder.path()).await;
    let versions = UserVersions::start(store.clone()).await.unwrap();
    let quota = quota.unwrap_or_else(|| Arc::new(MemoryQuota::rebuilt(&[], journal, versions)));
    let readiness = Readiness::new();
    readiness.set(Phase::Ready);
    let pepper = Pepper::new(SECRET);
    let identity = Identity::new(&pepper, config.accounts.clone(), config.billing);
    let links = Arc::new(Links::new(&pepper, config.public_url.clone()));
    let callers = CallerCache::new(store.clone(), 100)
        .requiring_verified_email(config.accounts.require_verified_email);
    let (mailer, mails) = match config.mail {
        Some(_) => Mailer::queued(Arc::clone(&metrics)),
        None => (Mailer::off(Arc::clone(&metrics)), tokio::sync::mpsc::channel(1).1),
    };
    let (reloads, _) = tokio::sync::mpsc::channel(1);
    let instance = Arc::new(InstanceInfo {
        readiness: readiness.clone(),
        started_at: clock::instant(),
        metrics: Arc::clone(&metrics),
        upstreams: Arc::new(ArcSwap::from_pointee(Upstreams::new(config.catalog.clone()))),
        reloads,
        checks: health::Checks::default(),
        config: Arc::new(ArcSwap::from_pointee(config.report())),
        upstream_test: tokio::sync::Mutex::default(),
    });
    let sign_in = external_login::SignIn::new(&pepper, config.oidc.as_ref());
    let state = ControlState {
        store: Arc::clone(&store),
        quota: Arc::clone(&quota),
        callers: Arc::new(callers),
        pepper,
        identity: Arc::new(identity),
        sign_in,
        links: Arc::clone(&links),
        mailer,
        instance: Arc::clone(&instance),
        overviews: Arc::new(admin::overview::overviews()),
        top_reports: Arc::new(admin::top_users::reports()),
        near_limits: Arc::new(near_limits::near_limits()),
        announcements: Arc::new(routes::announcements::cache()),
        model_reports: Arc::new(admin::usage::model_reports()),
        daily_totals: Arc::new(admin::stats::daily_totals()),
    };
    let trusted_proxies = config.listener.trusted_proxies.clone().into();
    let pages = crate::console::router(&state);
    let router = router(state, EdgeConfig { cors: config.cors.clone(), trusted_proxies }, pages);
    let admin_port = admin_port::router(AdminState {
        metrics,
        quota: Arc::clone(&quota),
        readiness: readiness.clone(),
        names: Vec::new(),
    });
    let (mails, folder) = (tokio::sync::Mutex::new(mails), folder);
    Control { router, admin_port, store, quota, readiness, mails, links, instance, _folder: folder }
}

async fn journal(store: &Arc<dyn Store>, metrics: &Arc<Metrics>, folder: &Path) -> Journal {
    let parts = journal::JournalDeps {
        disk: Arc::new(Folder::create(&folder.join("journal")).unwrap()),
        settings: LogSettings { synced: false, segment_bytes: 1 << 20, max_backlog_bytes: 1 << 30 },
        store: store.clone(),
        metrics: Arc::clone(metrics),
        workers: &Supervisor::default(),
        stop: CancellationToken::new(),
    };
    journal::start(parts).await.unwrap().journal
}

impl Control {
    /// A user as the operator adds it, logged in.
    pub(crate) async fn person(&self, email: &str, role: Role) -> Person {
        let new = NewUser {
            email: email.to_owned(),
            username: None,
            password_hash: Some(password::hash(PASSWORD).unwrap()),
            email_verified: false,
            role,
            plan: PlanId::from("leveler"),
            created_at: clock::now(),
        };
        let user = self.store.add_user(&new, &AuditContext::operator(clock::now())).await.unwrap();
        self.log_in(user).await
    }

    pub(crate) async fn log_in(&self, user: User) -> Person {
        let tokens = self.login(&user.email, PASSWORD).await.ok();
        let text = |field: &str| tokens[field].as_str().unwrap().to_owned();
        Person { token: text("access_token"), refresh: text("refresh_token"), user }
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Reply {
        let form = json!({ "email": email, "password": password });
        self.post("/api/v1/users/login", None, form).await
    }

    pub(crate) async fn user(&self) -> Person {
        self.person("ada@example.com", Role::User).await
    }

    pub(crate) async fn admin(&self) -> Person {
        self.person("root@example.com", Role::Admin).await
    }

    /// A key of a user, as the operator adds it.
    pub(crate) async fn key(
        &self,
        user: UserId,
        expires_at: Option<Timestamp>,
        limits: KeyLimits,
    ) -> PlainKey {
        let key = PlainKey::generate().unwrap();
        let new = NewKey {
            expires_at,
            limits,
            ..NewKey::of(&key, &Pepper::new(SECRET), "test", clock::now())
        };
        self.store.add_key(user, &new, &AuditContext::operator(clock::now())).await.unwrap();
        key
    }

    /// Writes a finished call to the ledger.
    pub(crate) async fn charged(&self, user: UserId, with: impl FnOnce(&mut Charge)) -> Charge {
        let mut ended = ended_now(user);
        with(&mut ended);
        self.store.write_batch(&[Entry::Settle(ended.clone())], None).await.unwrap();
        ended
    }

    async fn ask(&self, method: &str, path: &str, ask: Ask<'_>) -> Reply {
        send(&self.router, method, path, ask).await
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Reply {
        self.ask("GET", path, Ask::default().bearer(token)).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Reply {
        self.ask("POST", path, Ask::default().bearer(token).json(body)).await
    }

    async fn patch(&self, path: &str, token: Option<&str>, body: Value) -> Reply {
        self.ask("PATCH", path, Ask::default().bearer(token).json(body)).await
    }

    async fn delete(&self, path: &str, token: Option<&str>) -> Reply {
        self.ask("DELETE", path, Ask::default().bearer(token)).await
    }
}

impl Ask<'_> {
    fn bearer(mut self, token: Option<&str>) -> Self {
        self.headers.extend(token.map(|token| ("authorization", format!("Bearer {token}"))));
        self
    }

    fn json(mut self, body: Value) -> Self {
        self.headers.push(("content-type", "application/json".to_owned()));
        self.body = Some(body);
        self
    }
}

/// A call that ended now.
pub(crate) fn ended_now(user: UserId) -> Charge {
    let now = clock::now();
    let lease = domain::testing::lease(user, "0123456789ab", Day::at(now, &TimeZone::UTC), now);
    let tokens = TokenCount { prompt: 10, cached: 4, completion: 20, reasoning: 5 };
    Charge {
        cost_micro_dollars: 123,
        total_ms: 200,
        first_token_ms: Some(40),
        ..domain::testing::charge(&lease, tokens)
    }
}

async fn send(router: &Router, method: &str, path: &str, ask: Ask<'_>) -> Reply {
    let body = ask.body.map_or(Body::empty(), |body| Body::from(body.to_string()));
    raw(router, method, path, &ask.headers, ask.from, body).await
}

pub(crate) async fn raw(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    from: Option<&str>,
    body: Body,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let mut request = request.body(body).unwrap();
    let peer = SocketAddr::new(from.unwrap_or("127.0.0.1").parse().unwrap(), 1);
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, 1 << 22).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    Reply { status: head.status, headers: head.headers, text }
}
