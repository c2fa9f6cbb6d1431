//! A gateway for one test, that reads as prose: `gateway().plan(tiny).start().await`.
//!
//! It runs in this process, on free ports, with its own folder and its own simulator. It ends by
//! asserting that nothing is left: no open reservation, and counters, ledger and rollups agree.

pub mod http_client;
mod charges;
pub mod journal;
pub mod tcp_forward;
pub mod pgbouncer;
pub mod postgres;
pub mod raw_socket;
pub mod redis;
pub mod faulty_upstream;
pub mod recording_upstream;
pub mod scripted_upstream;
pub mod smtp_server;
pub mod surfaces;

use domain::actor::AuditContext;
use domain::charge::Charge;
use domain::day::Day;
use domain::id::{KeyId, PlanId, UserId};
use domain::key::{KeyLimits, PlainKey};
use domain::user::Role;
use http_client::{Call, Reply};
use knockx::app::{self, Running};
use knockx::config;
use mock_xai::Simulator;
use mock_xai::settings::Settings;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{NewKey, NewUser, Store, UserChange};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a test waits for what must happen soon. Only a failing test waits this long.
pub const SOON: Duration = Duration::from_secs(20);

/// A plan in a test's words; the rest is generous.
#[derive(Clone)]
pub struct Plan {
    pub id: &'static str,
    pub tokens: u64,
    pub requests: u64,
    pub window: u32,
    pub streams: u32,
    pub models: &'static [&'static str],
    pub time_zone: &'static str,
}

/// A plan that limits nothing a test would notice.
pub const WIDE: Plan = Plan {
    id: "wide",
    tokens: 100_000_000,
    requests: 1_000_000,
    window: 100_000,
    streams: 10_000,
    models: &[],
    time_zone: "UTC",
};

/// What to start.
pub struct Builder {
    plans: Vec<Plan>,
    settings: Settings,
    limits: String,
    listener: String,
    upstreams: Option<String>,
    /// Further `[[models]]`.
    models: String,
    /// Keys before the first section.
    head: String,
    /// Further sections.
    sections: String,
}

/// A running gateway with its simulator.
pub struct Gateway {
    pub running: Running,
    pub simulator: mock_xai::RunningSimulator,
    pub folder: TempDir,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A user's key.
#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub id: KeyId,
    pub user: UserId,
}

/// A gateway with one wide plan and a simulator that answers at once.
pub fn gateway() -> Builder {
    Builder {
        plans: vec![WIDE],
        settings: Settings::default(),
        limits: String::new(),
        listener: String::new(),
        upstreams: None,
        models: String::new(),
        head: String::new(),
        sections: String::new(),
    }
}

impl Builder {
    /// Adds a plan.
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plans.push(plan);
        self
    }

    /// Changes how the simulator answers.
    pub fn simulator(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Lines of `[limits]`.
    pub fn limits(mut self, lines: &str) -> Self {
        let _ = writeln!(self.limits, "{lines}");
        self
    }

    /// Lines of `[listener]`.
    pub fn listener(mut self, lines: &str) -> Self {
        let _ = writeln!(self.listener, "{lines}");
        self
    }

    /// `[[upstreams]]` tables in place of the simulator's, in the order in which the model prefers
    /// them; `{simulator}` stands for its address.
    pub fn upstreams(mut self, tables: &str) -> Self {
        self.upstreams = Some(tables.to_owned());
        self
    }

    /// `[[models]]` tables beside the two that are always there.
    pub fn models(mut self, tables: &str) -> Self {
        self.models.push_str(tables);
        self
    }

    /// Keys before the first section, and further sections.
    pub fn config_lines(mut self, head: &str, sections: &str) -> Self {
        let _ = writeln!(self.head, "{head}");
        let _ = writeln!(self.sections, "{sections}");
        self
    }

    pub async fn start(self) -> Gateway {
        self.start_in(TempDir::new().unwrap()).await
    }

    /// Starts on the folder of an earlier gateway.
    pub async fn start_in(self, folder: TempDir) -> Gateway {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let simulator =
            Simulator::start(self.settings.clone(), listener, &tasks, stop.clone()).unwrap();
        let text = self.config(&simulator.url(), &folder);
        let config = config::load_from(Some(("test.toml", &text)), &BTreeMap::new());
        let mut config = config.unwrap_or_else(|e| panic!("{e}\n{text}"));
        config.admin_addr = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let running = app::start(config, None).await.unwrap();
        Gateway { running, simulator, folder, stop, tasks }
    }

    fn config(&self, simulator: &str, folder: &TempDir) -> String {
        let default = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"sim-test-key\"\n\
             surfaces = [\"chat/completions\", \"responses\", \"completions\", \"embeddings\", \"images/generations\", \
             \"messages\", \"messages/count_tokens\", \"tokenize-text\"]\n";
        let upstreams =
            self.upstreams.as_deref().unwrap_or(default).replace("{simulator}", simulator);
        let names: Vec<_> = upstreams.lines().filter_map(|l| l.strip_prefix("name = ")).collect();
        let routes: Vec<_> = names.iter().map(|name| format!("{{ name = {name} }}")).collect();
        let (limits, listener) = (&self.limits, &self.listener);
        let routes = routes.join(", ");
        let database = format!("sqlite:{}", folder.path().join("knockx.db").display());
        let (others, head, sections) = (&self.models, &self.head, &self.sections);
        let plans: String = self.plans.iter().map(Plan::table).collect();
        format!(
            "host = \"127.0.0.1\"\nport = 0\n{head}\n{sections}\n[listener]\n{listener}\n[limits]\n{limits}\n[database]\nurl = {database:?}\n\
             {upstreams}\n\
             [[models]]\nid = \"grok-4.3\"\naliases = [\"grok-latest\"]\nupstreams = [{routes}]\ncontext_tokens = 1000000\n\
             prices = {{ input = 1.25, cached_input = 0.20, output = 2.50 }}\nowned_by = \"xai\"\n\
             [[models]]\nid = \"grok-4.20-0309-reasoning\"\nupstreams = [{routes}]\ncontext_tokens = 1000000\n\
             prices = {{ input = 1.25, cached_input = 0.20, output = 2.50 }}\nowned_by = \"xai\"\nhidden_reasoning = true\n\
             {others}{plans}"
        )
    }
}

impl Plan {
    fn table(&self) -> String {
        let models = if self.models.is_empty() {
            String::new()
        } else {
            format!("models = {:?}\n", self.models)
        };
        format!(
            "[[plans]]\nid = {:?}\nname = {:?}\nprice_cents = 0\nmax_tokens_per_day = {}\nmax_requests_per_day = {}\n\
             rate_limit_requests = {}\nrate_limit_window = 60\nconcurrent_streams = {}\ntime_zone = {:?}\n{models}",
            self.id, self.id, self.tokens, self.requests, self.window, self.streams, self.time_zone
        )
    }
}

/// Who changes something in a test.
pub fn by() -> AuditContext {
    AuditContext::operator(jiff::Timestamp::now())
}

impl Gateway {
    pub fn addr(&self) -> SocketAddr {
        self.running.public_addr
    }

    /// A new user on `plan`, with a key.
    pub async fn key(&self, plan: &str) -> Key {
        self.key_with(plan, KeyLimits::default()).await
    }

    /// A new user on `plan`, with a key that has limits of its own.
    pub async fn key_with(&self, plan: &str, limits: KeyLimits) -> Key {
        let user = NewUser {
            email: format!("{}@test.example", UserId::new()),
            username: None,
            password_hash: None,
            email_verified: false,
            role: Role::User,
            plan: PlanId::from(plan),
            created_at: jiff::Timestamp::now(),
        };
        let user = self.running.store.add_user(&user, &by()).await.unwrap().id;
        self.another_key(user, limits).await
    }

    /// One more key of a user.
    pub async fn another_key(&self, user: UserId, limits: KeyLimits) -> Key {
        let plain = PlainKey::generate().unwrap();
        let key = NewKey {
            id: plain.id(),
            digest: plain.digest(&self.running.pepper),
            last_four: plain.last_four().to_owned(),
            name: "test".to_owned(),
            created_at: jiff::Timestamp::now(),
            expires_at: None,
            limits,
        };
        self.running.store.add_key(user, &key, &by()).await.unwrap();
        Key { text: plain.reveal().to_owned(), id: plain.id(), user }
    }

    pub async fn change_user(&self, user: UserId, change: UserChange) {
        self.running.store.change_user(user, &change, &by()).await.unwrap().unwrap();
    }

    /// A chat completion's call, not yet sent.
    pub fn chat(&self, key: &Key, body: &str) -> Call {
        Call::post(self.addr(), "/v1/chat/completions").key(&key.text).body(body.to_owned())
    }

    /// A chat completion's whole reply.
    pub async fn ask(&self, key: &Key, body: &str) -> Reply {
        self.chat(key, body).send().await
    }

    /// Today's tokens and requests of a user, by the counters.
    pub async fn used(&self, user: UserId) -> (u64, u64) {
        let snapshot = self
            .running
            .quota
            .usage_snapshot(user, None, today(), jiff::Timestamp::now())
            .await
            .unwrap();
        (snapshot.user.tokens_used, snapshot.user.requests_used)
    }

    /// All metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        self.running.metrics.render()
    }

    /// Waits until no call is open.
    pub async fn settled(&self) {
        soon("open leases end", || async { self.running.quota.open_leases() == 0 }).await;
        self.written().await;
    }

    /// Waits until the ledger has what ended by now.
    pub async fn written(&self) {
        self.running.quota.used_on(today()).await.unwrap();
    }

    /// Ends the gateway, having asserted that nothing is left and all books agree.
    pub async fn finish(self) -> TempDir {
        self.settled().await;
        self.assert_books_agree().await;
        self.running.stop().await;
        self.stop.cancel();
        self.tasks.close();
        self.folder
    }

    /// Counters, ledger and rollups say the same of today, and ledger and rollups of yesterday.
    pub async fn assert_books_agree(&self) {
        for day in recent_days() {
            let drift = self.running.store.rollup_drift(day).await.unwrap();
            assert!(drift.is_empty(), "ledger and rollups differ: {drift:?}");
        }
        let ledger = self.running.store.ledger_totals(today()).await.unwrap();
        for row in ledger.iter().filter(|row| row.key.is_none()) {
            let counted = self.used(row.user).await;
            assert_eq!(counted, (row.tokens, row.requests), "counters and ledger of {}", row.user);
        }
    }
}

/// Today, in the zone of the tests' plans.
pub fn today() -> Day {
    Day::at(jiff::Timestamp::now(), &jiff::tz::TimeZone::UTC)
}

/// Yesterday and today: a test that runs across midnight has rows of both.
pub fn recent_days() -> [Day; 2] {
    let today = today();
    [Day(today.0.yesterday().unwrap()), today]
}

/// The ledger's rows of [`recent_days`].
pub async fn recent_charges(store: &Arc<dyn Store>) -> Vec<Charge> {
    let mut rows = Vec::new();
    for day in recent_days() {
        rows.extend(store.charges(day).await.unwrap());
    }
    rows
}

/// Waits for a condition that must come true soon, looking again whenever the runtime is free.
pub async fn soon<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let met = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, met).await.unwrap_or_else(|_| panic!("not soon enough: {what}"));
}

/// A chat body with one user message.
pub fn body(text: &str, members: &str) -> String {
    let text = serde_json::Value::from(text);
    format!(r#"{{"model":"grok-4.3","messages":[{{"role":"user","content":{text}}}]{members}}}"#)
}
