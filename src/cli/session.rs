//! The configured store, opened for one command, and what commands show of it.
//!
//! Works beside a running gateway: that one notices every change by the user's version.

use crate::cli::config_arg::ConfigArg;
use crate::config::{Config, Redis};
use crate::data_dir::DataDir;
use anyhow::Context;
use domain::actor::AuditContext;
use domain::id::UserId;
use domain::key::{Key, NoRandomness, Pepper, PlainKey};
use domain::server_secret::ServerSecret;
use domain::user::{User, normalised_email};
use jiff::Timestamp;
use quota::redis::connection::RedisConn;
use quota::redis::{Clock, RedisQuota, Settings};
use serde::Serialize;
use std::sync::Arc;
use store::change_notifier::Confirmation;
use store::{self, NewKey, Store};
use system::clock;
use telemetry::metrics::Metrics;

/// Arguments of every command on the store.
#[derive(Debug, Default, clap::Args)]
pub struct CommonArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,
}

/// An open store and its configuration.
pub struct CliSession {
    pub config: Config,
    /// Announces each change to gateways, if they share Redis.
    pub store: Arc<dyn Store>,
    /// The quota counters that gateways share.
    pub counters: Option<Arc<RedisQuota>>,
}

/// A user as commands print it.
#[derive(Serialize)]
pub struct UserRow {
    id: String,
    email: String,
    username: Option<String>,
    role: &'static str,
    status: &'static str,
    plan: String,
    created_at: String,
}

/// A key as commands print it.
#[derive(Serialize)]
pub struct KeyRow {
    id: String,
    name: String,
    last_four: String,
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    max_tokens_per_day: Option<u64>,
    max_requests_per_day: Option<u64>,
    models: Option<Vec<String>>,
}

impl CliSession {
    /// Opens an existing store. In a wrong directory the command fails and leaves
    /// nothing behind.
    pub async fn open(common: &CommonArgs) -> anyhow::Result<Self> {
        let config = common.config.load()?;
        if let Some(file) = config.database.missing_file() {
            anyhow::bail!(
                "the database {} does not exist; `knockx serve` creates it, --config or DATABASE_URL selects another one",
                file.display()
            );
        }
        Self::open_store(config).await
    }

    /// Opens the store or creates it: users may be added before a gateway runs.
    pub async fn open_or_create(common: &CommonArgs) -> anyhow::Result<Self> {
        Self::open_store(common.config.load()?).await
    }

    /// Adds the configured plans to a store on which no gateway has run yet.
    async fn open_store(config: Config) -> anyhow::Result<Self> {
        let mut store =
            store::open_at_once(&config.database).await.context("cannot open the database")?;
        if store.plans().await?.is_empty() {
            store.sync_plans(&config.plans, &AuditContext::gateway(clock::now())).await?;
        }
        let counters = match &config.redis {
            Some(redis) => Some(redis_quota(redis).await?),
            None => None,
        };
        if let Some(counters) = &counters {
            store = store.publishing(Arc::new(counters.change_notifier(store.clone())));
        } else {
            store = store.publishing(Arc::new(Confirmation::new(store.clone())));
        }
        Ok(Self { config, store, counters })
    }

    /// The user with this e-mail or id.
    pub async fn user(&self, who: &str) -> anyhow::Result<User> {
        let found = match (who.parse::<UserId>(), normalised_email(who)) {
            (Ok(id), _) => self.store.user(id).await?,
            (Err(_), Ok(email)) => self.store.user_by_email(&email).await?,
            (Err(_), Err(_)) => anyhow::bail!("`{who}` is neither an e-mail address nor a user id"),
        };
        found.with_context(|| format!("there is no user `{who}`"))
    }

    /// The secret that keys are hashed with; the same as the gateway's on this store.
    ///
    /// # Errors
    /// If the gateway uses a different secret: a key created here would not work.
    pub async fn pepper(&self, now: Timestamp) -> anyhow::Result<Pepper> {
        let folder = self.folder()?;
        let found = match (&self.config.secret_key, &folder) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Some(folder)) => folder.existing_secret()?,
            (None, None) => {
                anyhow::bail!("SECRET_KEY is required: the store has no data directory")
            }
        };
        let made = match (found, folder) {
            (Some(secret), _) => secret,
            // Generated here only if no gateway on this database uses a configured one.
            (None, Some(folder)) if self.store.secret_in_use(None, now).await?.is_none() => {
                folder.secret_key()?
            }
            (None, _) => anyhow::bail!(
                "SECRET_KEY is not set, but the gateway on this database uses one, so a key created \
                 without it would not work. Set the gateway's SECRET_KEY for this command"
            ),
        };
        let pepper = Pepper::new(made.expose().as_bytes());
        let mine = ServerSecret::of(&pepper).fingerprint();
        match self.store.secret_in_use(Some(mine), now).await? {
            Some(used) if used != mine => anyhow::bail!(
                "SECRET_KEY (fingerprint {mine}) differs from the one used by the gateway on this database \
(fingerprint {used}), so a key created with it would not work. Set the gateway's \
                 SECRET_KEY for this command; to rotate it, restart the gateway with the new one \
                 first, which invalidates all existing keys"
            ),
            _ => Ok(pepper),
        }
    }

    /// The folder of the store, where a running gateway announces itself; a server has none.
    pub fn folder(&self) -> anyhow::Result<Option<DataDir>> {
        Ok(self.config.database.folder().map(DataDir::open).transpose()?)
    }

    /// Creates a key; only the return value has its plain text.
    pub async fn add_key(
        &self,
        user: &User,
        describe: impl FnOnce(&mut NewKey),
        now: Timestamp,
    ) -> anyhow::Result<(PlainKey, Key)> {
        let (plain, mut key) = self.new_key(now).await?;
        describe(&mut key);
        let key = self.store.add_key(user.id, &key, &AuditContext::operator(now)).await?;
        Ok((plain, key))
    }

    async fn new_key(&self, now: Timestamp) -> anyhow::Result<(PlainKey, NewKey)> {
        let plain = PlainKey::generate().map_err(|e: NoRandomness| anyhow::anyhow!(e))?;
        let key = NewKey::of(&plain, &self.pepper(now).await?, "default", now);
        Ok((plain, key))
    }
}

/// The counters in Redis, for reading: a command runs no background tasks.
async fn redis_quota(redis: &Redis) -> anyhow::Result<Arc<RedisQuota>> {
    let connection = RedisConn::open(&redis.urls).await.context("cannot reach Redis")?;
    let settings = Settings {
        clock: Clock::Redis,
        lease: redis.lease,
        max_backlog: redis.max_backlog,
        compare: redis.compare,
    };
    let metrics = Arc::new(Metrics::new(&[], &[]));
    Ok(Arc::new(RedisQuota::new(connection, settings, metrics)))
}

/// Prints `value` as one line of JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

impl UserRow {
    /// The row as one line of text.
    pub fn line(&self) -> String {
        let Self { id, email, role, status, plan, .. } = self;
        format!("{id}  {email:<32}  {role:<7}  {status:<9}  {plan}")
    }
}

impl KeyRow {
    /// The row as one line of text.
    pub fn line(&self) -> String {
        let state = match (&self.revoked_at, &self.expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => format!("expires {at}"),
            (None, None) => "valid".to_owned(),
        };
        let mut line = format!("{}  …{}  {:<16}  {state}", self.id, self.last_four, self.name);
        for limit in self.limits() {
            line.push_str("  ");
            line.push_str(&limit);
        }
        line
    }

    /// The limits of the key in addition to the plan's.
    fn limits(&self) -> impl Iterator<Item = String> {
        let tokens = self.max_tokens_per_day.map(|most| format!("{most} tokens/day"));
        let requests = self.max_requests_per_day.map(|most| format!("{most} requests/day"));
        let models = self.models.as_ref().map(|models| {
            if models.is_empty() {
                "no models".to_owned()
            } else {
                format!("models: {}", models.join(", "))
            }
        });
        [tokens, requests, models].into_iter().flatten()
    }
}

impl From<&User> for UserRow {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            username: user.username.clone(),
            role: user.role.as_str(),
            status: user.status.as_str(),
            plan: user.plan.to_string(),
            created_at: user.created_at.to_string(),
        }
    }
}

impl From<&Key> for KeyRow {
    fn from(key: &Key) -> Self {
        let time = |at: &Timestamp| at.to_string();
        let models = |all: &Arc<[Arc<str>]>| all.iter().map(ToString::to_string).collect();
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            last_four: key.last_four.clone(),
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.as_ref().map(time),
            revoked_at: key.revoked_at.as_ref().map(time),
            max_tokens_per_day: key.limits.tokens_per_day,
            max_requests_per_day: key.limits.requests_per_day,
            models: key.limits.models.as_ref().map(models),
        }
    }
}
