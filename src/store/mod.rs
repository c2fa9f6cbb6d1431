//! Where users, plans, keys and the ledger live: the verbs, whatever the dialect.
//!
//! Each verb is one use, done in one transaction. The dialect is chosen once, in [`open`].
//! Every write is idempotent, so a caller that lost the answer may repeat it.

pub mod sessions;
pub mod upgrades;
pub mod audit;
pub mod reports;
pub mod stored_responses;
pub mod announced;
pub mod confirmed;
pub mod measured;
pub mod sqlite;
pub mod postgres;
mod gate;
mod trouble;
mod columns;
mod report_rows;
mod history;
#[cfg(test)]
pub(crate) mod scripted;

use crate::account::by::By;
use crate::account::caller::Caller;
use crate::account::charge::{Adjustment, Charge};
use crate::account::day::Day;
use crate::account::id::{KeyId, PlanId, RequestId, UserId};
use crate::account::key::{Key, KeyDigest, KeyLimits, Pepper, PlainKey};
use crate::account::plan::{Plan, PlanLimits, PolicyChange, Window};
use crate::account::user::{LimitOverrides, Role, User, UserStatus};
use crate::config::Database;
use async_trait::async_trait;
use audit::Audit;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reports::Reports;
use serde::{Deserialize, Serialize};
use sessions::Sessions;
use std::collections::HashSet;
use std::sync::Arc;
use stored_responses::StoredResponses;
use upgrades::Upgrades;
use uuid::Uuid;

/// The verbs. Errors are [`StoreError`]; "not there" is `Ok(None)`.
#[async_trait]
pub trait Store:
    Sessions + Upgrades + Audit + Reports + StoredResponses + Send + Sync + 'static
{
    // --- the journal of the data plane -----------------------------------------------------

    /// Becomes the one instance that writes the journal, or says that there is another. Whoever held
    /// the claim before, and has lost touch, can write no more. Commands do without it.
    async fn claim(&self) -> Result<(), StoreError>;

    /// Lets another instance claim the store at once. This one must claim it again before it writes.
    async fn release_claim(&self) -> Result<(), StoreError>;

    /// Deletes what is past its time: keys that ended [`KEYS_KEPT_DAYS`] ago, requests for plans that were
    /// replaced as long ago, expired sessions, quarters of an hour of past days. The ledger, its daily
    /// sums and the audit log stay. At most [`PRUNED_AT_ONCE`] rows of each; returns how many, so that 0
    /// means that nothing is left.
    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError>;
    /// Makes room for the ledger of `from` and the week after it, where days have to be prepared.
    /// To be repeated every day; charges of other days are taken too.
    async fn prepare_days(&self, from: Day) -> Result<(), StoreError>;
    /// Writes a batch in one transaction, in order, and with it how far it brings the ledger in a journal.
    async fn journal(&self, batch: &[Entry], mark: Option<Mark>) -> Result<(), StoreError>;
    /// How far the ledger has the journal with this id.
    async fn mark(&self, log: Uuid) -> Result<Option<u64>, StoreError>;
    /// The journal that the ledger was last written from.
    async fn latest_mark(&self) -> Result<Option<Mark>, StoreError>;
    /// Keeps what could not be read or written for good, and why, for a person to look at. Burying
    /// the same entry again changes nothing.
    async fn bury(&self, entry: &str, why: &str, now: Timestamp) -> Result<(), StoreError>;
    /// What users and keys have used on `from` and later, from the rollups, with adjustments.
    async fn used_since(&self, from: Day) -> Result<Vec<Used>, StoreError>;

    // --- who may call -----------------------------------------------------------------------

    /// The record behind a key, whatever its status.
    async fn caller(&self, key: &KeyId) -> Result<Option<Caller>, StoreError>;
    /// The user's current version.
    async fn user_version(&self, user: UserId) -> Result<Option<u64>, StoreError>;
    /// Users changed after `since` (0 = from the beginning), and the number to ask with next time.
    async fn changes(&self, since: u64) -> Result<Changes, StoreError>;
    /// The number of the latest change.
    async fn last_change(&self) -> Result<u64, StoreError>;
    /// Tells, cheaply and without asking the database, whether anything was committed.
    fn commit_stamp(&self) -> CommitStamp;
    /// Says that the instance with the claim acts on all changes up to `upto`, for commands that wait for it.
    /// [`StoreError::Superseded`] when the claim is another's now.
    async fn confirm_changes(&self, upto: u64) -> Result<(), StoreError>;
    /// True if the instance with the claim acts on the latest change of a user (`None` = of any), or none
    /// runs.
    async fn is_change_confirmed(&self, user: Option<UserId>) -> Result<bool, StoreError>;

    // --- accounts: every change is audited in its own transaction ---------------------------

    async fn add_user(&self, user: &NewUser, by: &By) -> Result<User, UserError>;
    /// By id.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;
    /// By normalised e-mail.
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError>;
    /// At most `limit` users after `after`, in the order of their ids.
    async fn users(
        &self,
        filter: &UserFilter,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, StoreError>;
    /// Applies the change and raises the user's version. A new password or a suspension ends the
    /// user's sessions. `None` when there is no such user.
    async fn change_user(
        &self,
        id: UserId,
        change: &UserChange,
        by: &By,
    ) -> Result<Option<User>, UserError>;
    async fn add_key(&self, user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError>;
    /// Changes a key that is not revoked; `None` when the user has no such key.
    async fn change_key(
        &self,
        user: UserId,
        key: &KeyId,
        change: &KeyChange,
        by: &By,
    ) -> Result<Option<Key>, StoreError>;
    /// Adds a key and revokes all others of the user that have its name, at once.
    async fn replace_key(&self, user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError>;
    /// At most `limit` keys of a user, the oldest first.
    async fn keys(
        &self,
        user: UserId,
        filter: &KeyFilter,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError>;
    /// A key of a user, whatever its state; `None` when it is not this user's.
    async fn key(&self, user: UserId, key: &KeyId) -> Result<Option<Key>, StoreError>;
    /// Revokes; `None` when there is no such key. Revoking twice keeps the first time.
    async fn revoke_key(&self, key: &KeyId, by: &By) -> Result<Option<Key>, StoreError>;
    /// All plans, the cheapest first.
    async fn plans(&self) -> Result<Vec<Plan>, StoreError>;
    async fn plan(&self, id: &PlanId) -> Result<Option<Plan>, StoreError>;
    /// Inserts the configured plans or updates them to what is given, but for those that were
    /// changed by [`Store::change_plan`] or come from [`Store::add_plan`]: these stay, and their ids
    /// are returned. Users of a changed plan get a new version.
    async fn put_plans(&self, plans: &[Plan], by: &By) -> Result<Vec<PlanId>, StoreError>;
    /// Adds a plan; false when its id is taken, and nothing has changed.
    async fn add_plan(&self, plan: &Plan, by: &By) -> Result<bool, StoreError>;
    /// Changes a plan as it stands then; its users get a new version where its limits change. `None` when
    /// there is no such plan.
    async fn change_plan(
        &self,
        id: &PlanId,
        change: &PlanChange,
        by: &By,
    ) -> Result<Option<Plan>, StoreError>;

    // --- checks -----------------------------------------------------------------------------

    /// Ledger against rollups for one day, per user: only what differs.
    async fn rollup_drift(&self, day: Day) -> Result<Vec<Drift>, StoreError>;
    /// The day's totals per user and per key, summed from the ledger itself, with adjustments.
    async fn ledger_totals(&self, day: Day) -> Result<Vec<Used>, StoreError>;
    /// The ledger row of a request.
    async fn charge(&self, request: RequestId) -> Result<Option<Charge>, StoreError>;
    /// All ledger rows of a day, in the order of admission. For checks and exports, not for dashboards.
    async fn charges(&self, day: Day) -> Result<Vec<Charge>, StoreError>;
    /// Which of these charges have their row in the ledger.
    async fn recorded(
        &self,
        charges: &[(RequestId, Day)],
    ) -> Result<HashSet<RequestId>, StoreError>;
    /// Takes the rows of all days before `before` out of the ledger; rollups and adjustments stay. Returns
    /// the number of rows. Nobody who writes is held up.
    async fn prune_ledger(&self, before: Day, now: Timestamp) -> Result<u64, StoreError>;
    /// True when rows of that day were taken out: ledger and rollups cannot be compared then.
    async fn is_ledger_pruned(&self, day: Day) -> Result<bool, StoreError>;
    /// How many entries are buried.
    async fn buried(&self) -> Result<u64, StoreError>;
    /// Answers when the store does, and takes writes.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Tries whether the store can be reached, within a second. A file always can.
    async fn reach(&self) -> Reach {
        Reach::Open
    }
    /// Ends all connections in good order; nothing may be asked afterwards.
    async fn close(&self) {}
}

/// Opens the configured store, its tables brought up to date. Waits for a server that starts or sleeps.
///
/// # Errors
/// When it cannot be reached or used.
pub async fn open(database: &Database) -> Result<Arc<dyn Store>, StoreError> {
    open_with(database, Patience::UntilItIsUp).await
}

/// The same for a command: a server that refuses connections is an error at once.
///
/// # Errors
/// When it cannot be reached or used.
pub async fn open_at_once(database: &Database) -> Result<Arc<dyn Store>, StoreError> {
    open_with(database, Patience::None).await
}

async fn open_with(database: &Database, patience: Patience) -> Result<Arc<dyn Store>, StoreError> {
    match database {
        Database::Sqlite { path, durability } => {
            Ok(Arc::new(sqlite::SqliteStore::open(path, *durability).await?))
        }
        Database::Postgres(server) => {
            Ok(Arc::new(postgres::PostgresStore::open(server, patience).await?))
        }
    }
}

/// How long to wait for a server that refuses connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    UntilItIsUp,
}

/// Reaches the configured store once, tries what `serve` relies on, and says in a few words what it found.
/// Changes nothing. `alone` where one gateway runs without Redis, which needs more of the way there.
///
/// # Errors
/// When it cannot be reached, or `serve` would refuse it.
pub async fn look(database: &Database, alone: bool) -> Result<String, StoreError> {
    match database {
        Database::Sqlite { .. } => {
            let store = open(database).await?;
            store.ping().await?;
            store.close().await;
            Ok("answers".to_owned())
        }
        Database::Postgres(server) => postgres::look(server, alone).await,
    }
}

/// Whether a store can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    Open,
    /// It takes no connection now, and says so; the reason.
    Refused(String),
    /// It has not answered: it may be waking up.
    Silent,
}

/// What is written to the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A call ended: its ledger row and its rollups. Repeats change nothing, but
    /// the real charge replaces one that is `abandoned`, and one that the upstream reported replaces an
    /// estimate, whatever their order.
    Settle(Charge),
    /// A correction beside the ledger. Repeats change nothing.
    Adjust(Adjustment),
}

/// A position in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The id of its log.
    pub log: Uuid,
    /// Bytes from its beginning; everything before it is in the ledger.
    pub position: u64,
}

/// What a store shows of its commits without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitStamp {
    /// Nothing: changes have to be asked for again and again, or told.
    Remote,
    /// Nothing just now, so something may have been committed.
    Unknown,
    /// Differs after every commit of whatever process.
    At([u8; 48]),
}

/// Tokens and requests used, per user and day; per key where `key` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub user: UserId,
    /// `None` for the whole user.
    pub key: Option<KeyId>,
    pub day: Day,
    pub tokens: u64,
    pub requests: u64,
}

/// Which users changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    pub upto: u64,
    pub users: Vec<Changed>,
}

/// A user who changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    pub user: UserId,
    /// What [`Caller::version`] is from then on.
    pub version: u64,
}

/// A user to be added.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub email: String,
    pub username: Option<String>,
    /// A PHC string (argon2id); `None` for a user who cannot log in.
    pub password_hash: Option<String>,
    pub role: Role,
    pub plan: PlanId,
    pub created_at: Timestamp,
}

/// Which users; `None` = any.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// A part of the e-mail or the username, in whatever case; of one or two letters, its beginning.
    pub search: Option<String>,
    pub plan: Option<PlanId>,
    pub status: Option<UserStatus>,
    pub role: Option<Role>,
}

/// Which keys of a user.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// Only those that are not revoked.
    pub live: bool,
    /// Only those after this place in the list, as [`key_place`] gives it.
    pub after: Option<(Timestamp, KeyId)>,
}

/// The place of a key in its user's list.
#[must_use]
pub fn key_place(key: &Key) -> (Timestamp, KeyId) {
    (key.created_at, key.id.clone())
}

/// All keys of a user, the oldest first, revoked ones too: for work that needs each of them. A user has
/// [`LIVE_KEYS`] and [`REVOKED_KEYS`] at most.
///
/// # Errors
/// When the store does not answer.
pub async fn all_keys(store: &dyn Store, user: UserId) -> Result<Vec<Key>, StoreError> {
    let (mut keys, mut filter) = (Vec::new(), KeyFilter::default());
    loop {
        let page = store.keys(user, &filter, KEYS_AT_A_TIME).await?;
        filter.after = page.last().map(key_place);
        let is_last = page.len() < KEYS_AT_A_TIME as usize;
        keys.extend(page);
        if is_last {
            return Ok(keys);
        }
    }
}

/// Changes to a user; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// Normalised.
    pub email: Option<String>,
    /// `Some(None)` takes it away.
    pub username: Option<Option<String>>,
    /// All of them: what is not given is the plan's again.
    pub overrides: Option<LimitOverrides>,
    /// A PHC string (argon2id).
    pub password_hash: Option<String>,
    pub plan: Option<PlanId>,
    pub role: Option<Role>,
    pub status: Option<UserStatus>,
}

/// Changes to a key; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct KeyChange {
    pub name: Option<String>,
    /// `Some(None)` = never.
    pub expires_at: Option<Option<Timestamp>>,
    /// `Some(None)` = the plan's again, as for the two below.
    pub tokens_per_day: Option<Option<u64>>,
    pub requests_per_day: Option<Option<u64>>,
    pub models: Option<Option<Arc<[Arc<str>]>>>,
}

/// Changes to a plan; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct PlanChange {
    pub name: Option<String>,
    pub price_cents: Option<u32>,
    pub retired: Option<bool>,
    pub tokens_per_day: Option<u64>,
    pub requests_per_day: Option<u64>,
    pub window: Option<Window>,
    pub concurrent_streams: Option<u32>,
    /// `Some(None)` = every model.
    pub models: Option<Option<Arc<[Arc<str>]>>>,
    pub time_zone: Option<TimeZone>,
    pub policy: PolicyChange,
}

impl UserChange {
    /// The user afterwards, but for the version, which the store raises.
    fn applied_to(&self, user: User) -> User {
        User {
            email: self.email.clone().unwrap_or(user.email),
            username: self.username.clone().unwrap_or(user.username),
            overrides: LimitOverrides {
                // Nobody's to give: it follows from changes of the plan.
                time_zone: user.overrides.time_zone.clone(),
                ..self.overrides.clone().unwrap_or(user.overrides)
            },
            plan: self.plan.clone().unwrap_or(user.plan),
            role: self.role.unwrap_or(user.role),
            status: self.status.unwrap_or(user.status),
            ..user
        }
    }

    /// Whether who is logged in as the user must log in again.
    fn ends_sessions(&self) -> bool {
        self.password_hash.is_some() || self.status == Some(UserStatus::Suspended)
    }
}

impl KeyChange {
    /// The key afterwards.
    fn applied_to(&self, key: Key) -> Key {
        Key {
            name: self.name.clone().unwrap_or(key.name),
            expires_at: self.expires_at.unwrap_or(key.expires_at),
            limits: KeyLimits {
                tokens_per_day: self.tokens_per_day.unwrap_or(key.limits.tokens_per_day),
                requests_per_day: self.requests_per_day.unwrap_or(key.limits.requests_per_day),
                models: self.models.clone().unwrap_or(key.limits.models),
            },
            ..key
        }
    }
}

impl PlanChange {
    /// The plan afterwards.
    fn applied_to(&self, plan: Plan) -> Plan {
        let Plan { id, name, price_cents, retired, limits } = plan;
        Plan {
            id,
            name: self.name.clone().unwrap_or(name),
            price_cents: self.price_cents.unwrap_or(price_cents),
            retired: self.retired.unwrap_or(retired),
            limits: PlanLimits {
                tokens_per_day: self.tokens_per_day.unwrap_or(limits.tokens_per_day),
                requests_per_day: self.requests_per_day.unwrap_or(limits.requests_per_day),
                window: self.window.unwrap_or(limits.window),
                concurrent_streams: self.concurrent_streams.unwrap_or(limits.concurrent_streams),
                models: self.models.clone().unwrap_or(limits.models),
                time_zone: self.time_zone.clone().unwrap_or(limits.time_zone),
                policy: self.policy.applied_to(limits.policy),
            },
        }
    }
}

/// A key to be added: only its hash is stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub id: KeyId,
    pub digest: KeyDigest,
    pub last_four: String,
    pub name: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub limits: KeyLimits,
}

impl NewKey {
    /// The record of `plain`, without an expiry and limits of its own.
    #[must_use]
    pub fn of(plain: &PlainKey, pepper: &Pepper, name: &str, created_at: Timestamp) -> Self {
        Self {
            id: plain.id(),
            digest: plain.digest(pepper),
            last_four: plain.last_four().to_owned(),
            name: name.to_owned(),
            created_at,
            expires_at: None,
            limits: KeyLimits::default(),
        }
    }
}

/// A user-day on which ledger and rollups disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub user: UserId,
    pub day: Day,
    /// Tokens and requests.
    pub ledger: (u64, u64),
    pub rollup: (u64, u64),
}

/// The store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Worth trying again: busy, full, unreachable.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Another instance has claimed the store since.
    #[error("another knockx instance has taken over this database")]
    Superseded,
    /// Not worth trying again: the entry or row itself is to blame.
    #[error("the store contains unexpected data: {0}")]
    Corrupt(String),
    /// A key, plan or user that the change refers to is not there.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// A user has [`LIVE_KEYS`] already.
    #[error("a user can have {LIVE_KEYS} live keys at most")]
    TooManyKeys,
}

/// Keys that a user may have at the same time, revoked ones not counted.
pub const LIVE_KEYS: usize = 100;
/// Revoked keys of a user that are kept; a further one takes the place of the one that was revoked
/// first.
pub const REVOKED_KEYS: u32 = 500;
/// Days for which revoked and expired keys are kept; the ledger names their ids for longer.
pub const KEYS_KEPT_DAYS: i64 = 90;
/// Rows of a kind that one [`Store::prune`] deletes: so few that nobody waits for it.
pub const PRUNED_AT_ONCE: u32 = 1000;
/// Keys that [`all_keys`] reads in one step.
const KEYS_AT_A_TIME: u32 = 500;

/// Why a user was not added or changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("a user with this e-mail exists")]
    EmailTaken,
    #[error("a user with this username exists")]
    UsernameTaken,
    #[error("there is no plan `{0}`")]
    NoSuchPlan(PlanId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UserError {
    /// For changes that give the user no other name, whose plan is known to be there.
    fn of_the_store(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::NoSuchPlan(_) => StoreError::Missing("plan"),
            Self::EmailTaken | Self::UsernameTaken => StoreError::Corrupt(self.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// [`StoreError::Corrupt`] is kept for what the entry or row itself is to blame for. A store that
    /// is damaged, full or away is its own trouble: no charge may be given up because of it.
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if code.is_some_and(|code| code == postgres::SUPERSEDED) {
            return Self::Superseded;
        }
        let blames_the_data = match &error {
            sqlx::Error::Database(e) => match e.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
                Some(e) => sqlite::blames_the_data(e),
                None => e.code().is_some_and(|code| postgres::blames_the_data(&code)),
            },
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
            _ => false,
        };
        if blames_the_data {
            Self::Corrupt(error.to_string())
        } else {
            Self::Unavailable(trouble::sentence(&error))
        }
    }
}
