//! Keys, the caller record behind each, and who changed.

use super::SqliteStore;
use super::accounts::constraint;
use super::plans::LimitsRow;
use crate::account::caller::Caller;
use crate::account::id::{KeyId, PlanId, UserId};
use crate::account::key::{Key, KeyDigest, KeyLimits};
use crate::store::columns;
use crate::store::{Changes, NewKey, StoreError};
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::error::ErrorKind;

/// A key as it is stored, without its hash.
#[derive(sqlx::FromRow)]
struct KeyRow {
    id: String,
    name: String,
    last_four: String,
    created_at: i64,
    #[sqlx(flatten)]
    state: KeyStateRow,
}

/// What may end a key or narrow it: also a part of the caller's record.
#[derive(sqlx::FromRow)]
struct KeyStateRow {
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    key_tokens_per_day: Option<i64>,
    key_requests_per_day: Option<i64>,
    key_models: Option<String>,
}

#[derive(sqlx::FromRow)]
struct CallerRow {
    user_id: Vec<u8>,
    key_id: String,
    digest: Vec<u8>,
    user_status: String,
    #[sqlx(flatten)]
    key: KeyStateRow,
    plan_id: String,
    #[sqlx(flatten)]
    plan_limits: LimitsRow,
    version: i64,
}

pub(super) async fn caller(store: &SqliteStore, key: &KeyId) -> Result<Option<Caller>, StoreError> {
    let row: Option<CallerRow> = sqlx::query_as(
        "select
             users.id as user_id, api_key.id as key_id, api_key.digest,
             users.status as user_status, api_key.expires_at, api_key.revoked_at,
             api_key.tokens_per_day as key_tokens_per_day,
             api_key.requests_per_day as key_requests_per_day,
             api_key.models as key_models,
             plan.id as plan_id, plan.tokens_per_day, plan.requests_per_day,
             plan.window_capacity, plan.window_refill_seconds, plan.concurrent_streams,
             plan.models, plan.time_zone,
             users.version
         from api_key
         join users on users.id = api_key.user_id
         join plan on plan.id = users.plan_id
         where api_key.id = ?1",
    )
    .bind(key.as_str())
    .fetch_optional(&store.readers)
    .await?;
    row.map(Caller::try_from).transpose()
}

pub(super) async fn user_version(
    store: &SqliteStore,
    user: UserId,
) -> Result<Option<u64>, StoreError> {
    let version: Option<i64> = sqlx::query_scalar("select version from users where id = ?1")
        .bind(columns::blob(user.0))
        .fetch_optional(&store.readers)
        .await?;
    version.map(columns::count).transpose()
}

pub(super) async fn changes(store: &SqliteStore, since: u64) -> Result<Changes, StoreError> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "select change_seq, id from users where change_seq > ?1 order by change_seq",
    )
    .bind(columns::integer(since))
    .fetch_all(&store.readers)
    .await?;
    let upto = rows.last().map_or(Ok(since), |(seq, _)| columns::count(*seq))?;
    let users = rows.iter().map(|(_, id)| columns::user_id(id)).collect::<Result<_, _>>()?;
    Ok(Changes { upto, users })
}

/// Adding the same key again changes nothing; another key under its id is refused.
pub(super) async fn add_key(
    store: &SqliteStore,
    user: UserId,
    key: &NewKey,
) -> Result<Key, StoreError> {
    let mut turn = store.writer.turn().await?;
    let mut tx = turn.begin().await?;
    let inserted = insert_key(&mut tx, user, key).await?;
    if inserted {
        touch_user(&mut tx, &key.id).await?;
    }
    let row: Option<KeyRow> = sqlx::query_as(
        "select
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models
         from api_key
         where id = ?1 and user_id = ?2 and digest = ?3",
    )
    .bind(key.id.as_str())
    .bind(columns::blob(user.0))
    .bind(key.digest.0.to_vec())
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    let taken = || StoreError::Corrupt(format!("another key has the id {}", key.id));
    row.ok_or_else(taken)?.try_into()
}

async fn insert_key(
    tx: &mut SqliteConnection,
    user: UserId,
    key: &NewKey,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "insert into api_key (
             id, user_id, digest, last_four, name, created_at, expires_at,
             tokens_per_day, requests_per_day, models
         )
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         on conflict (id) do nothing",
    )
    .bind(key.id.as_str())
    .bind(columns::blob(user.0))
    .bind(key.digest.0.to_vec())
    .bind(&key.last_four)
    .bind(&key.name)
    .bind(key.created_at.as_millisecond())
    .bind(key.expires_at.map(Timestamp::as_millisecond))
    .bind(key.limits.tokens_per_day.map(columns::integer))
    .bind(key.limits.requests_per_day.map(columns::integer))
    .bind(columns::models_text(&key.limits.models))
    .execute(tx)
    .await;
    match done {
        Ok(done) => Ok(done.rows_affected() > 0),
        Err(e) if constraint(&e) == Some(ErrorKind::ForeignKeyViolation) => {
            Err(StoreError::Missing("user"))
        }
        Err(e) => Err(e.into()),
    }
}

pub(super) async fn keys(store: &SqliteStore, user: UserId) -> Result<Vec<Key>, StoreError> {
    let rows: Vec<KeyRow> = sqlx::query_as(
        "select
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models
         from api_key
         where user_id = ?1
         order by created_at, id",
    )
    .bind(columns::blob(user.0))
    .fetch_all(&store.readers)
    .await?;
    rows.into_iter().map(Key::try_from).collect()
}

pub(super) async fn revoke_key(
    store: &SqliteStore,
    key: &KeyId,
    now: Timestamp,
) -> Result<Option<Key>, StoreError> {
    let mut turn = store.writer.turn().await?;
    let mut tx = turn.begin().await?;
    let revoked =
        sqlx::query("update api_key set revoked_at = ?2 where id = ?1 and revoked_at is null")
            .bind(key.as_str())
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
    if revoked.rows_affected() > 0 {
        touch_user(&mut tx, key).await?;
    }
    let row: Option<KeyRow> = sqlx::query_as(
        "select
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models
         from api_key
         where id = ?1",
    )
    .bind(key.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    row.map(Key::try_from).transpose()
}

/// Gives the key's user the next version: the user's calls must load the record again.
async fn touch_user(tx: &mut SqliteConnection, key: &KeyId) -> Result<(), StoreError> {
    sqlx::query(
        "update users set
             version = version + 1,
             change_seq = (select coalesce(max(change_seq), 0) + 1 from users)
         where id = (select user_id from api_key where id = ?1)",
    )
    .bind(key.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

impl KeyStateRow {
    fn limits(&self) -> Result<KeyLimits, StoreError> {
        Ok(KeyLimits {
            tokens_per_day: self.key_tokens_per_day.map(columns::count).transpose()?,
            requests_per_day: self.key_requests_per_day.map(columns::count).transpose()?,
            models: columns::models(self.key_models.as_deref())?,
        })
    }
}

impl TryFrom<KeyRow> for Key {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            limits: row.state.limits()?,
            id: KeyId(row.id.into()),
            name: row.name,
            last_four: row.last_four,
            created_at: columns::instant(row.created_at)?,
            expires_at: row.state.expires_at.map(columns::instant).transpose()?,
            revoked_at: row.state.revoked_at.map(columns::instant).transpose()?,
        })
    }
}

impl TryFrom<CallerRow> for Caller {
    type Error = StoreError;

    fn try_from(row: CallerRow) -> Result<Self, StoreError> {
        let digest = <[u8; 32]>::try_from(row.digest.as_slice())
            .map_err(|_| StoreError::Corrupt("a key's hash has the wrong length".into()))?;
        Ok(Self {
            user: columns::user_id(&row.user_id)?,
            key: KeyId(row.key_id.into()),
            digest: KeyDigest(digest),
            user_status: columns::user_status(&row.user_status)?,
            key_revoked: row.key.revoked_at.is_some(),
            key_expires_at: row.key.expires_at.map(columns::instant).transpose()?,
            key_limits: row.key.limits()?,
            plan: PlanId(row.plan_id.into()),
            plan_limits: row.plan_limits.try_into()?,
            version: columns::count(row.version)?,
        })
    }
}
