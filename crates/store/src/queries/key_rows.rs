//! Rows of keys, and the statements on them.

use super::dialect::{Connection, Driver};
use super::users;
use crate::StoreError;
use crate::encode;
use crate::keys::NewKey;
use domain::id::{KeyId, UserId};
use domain::key::{Key, KeyLimits};
use domain::user::UserStatus;
use jiff::Timestamp;
use sqlx::Executor;
use uuid::Uuid;

/// A key as it is stored, without its hash.
#[derive(sqlx_macros::FromRow)]
pub(super) struct KeyRow {
    id: String,
    name: String,
    last_four: String,
    created_at: i64,
    #[sqlx(flatten)]
    state: KeyStateRow,
}

/// A key with its user.
#[derive(sqlx_macros::FromRow)]
pub(super) struct OwnedKeyRow {
    pub user_id: Uuid,
    #[sqlx(flatten)]
    pub key: KeyRow,
}

/// Columns that limit or expire a key; they are also part of the caller record.
#[derive(sqlx_macros::FromRow)]
pub(super) struct KeyStateRow {
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    key_tokens_per_day: Option<i64>,
    key_requests_per_day: Option<i64>,
    key_models: Option<String>,
}

/// The user who owns a key.
pub(super) async fn owner_of(
    tx: &mut Connection,
    key: &KeyId,
) -> Result<Option<UserId>, StoreError> {
    let owner: Option<Uuid> = sqlx::query_scalar("select user_id from api_key where id = $1")
        .bind(key.as_str())
        .fetch_optional(tx)
        .await?;
    Ok(owner.map(UserId))
}

pub(super) async fn insert(
    tx: &mut Connection,
    user: UserId,
    key: &NewKey,
) -> Result<bool, StoreError> {
    let owner = users::find(&mut *tx, user).await?;
    owner.filter(|o| o.user.status != UserStatus::Deleted).ok_or(StoreError::Missing("user"))?;
    let done = sqlx::query(
        "insert into api_key (
             id, user_id, digest, last_four, name, created_at, expires_at,
             tokens_per_day, requests_per_day, models
         )
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (id) do nothing",
    )
    .bind(key.id.as_str())
    .bind(user.0)
    .bind(key.digest.0.to_vec())
    .bind(&key.last_four)
    .bind(&key.name)
    .bind(key.created_at.as_millisecond())
    .bind(key.expires_at.map(Timestamp::as_millisecond))
    .bind(key.limits.tokens_per_day.map(encode::integer))
    .bind(key.limits.requests_per_day.map(encode::integer))
    .bind(encode::models_text(&key.limits.models))
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The key under the id of `key`, which must be that very key.
pub(super) async fn find_same(
    tx: &mut Connection,
    user: UserId,
    key: &NewKey,
) -> Result<Key, StoreError> {
    let row: Option<KeyRow> = sqlx::query_as(
        "select
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models
         from api_key
         where id = $1 and user_id = $2 and digest = $3",
    )
    .bind(key.id.as_str())
    .bind(user.0)
    .bind(key.digest.0.to_vec())
    .fetch_optional(tx)
    .await?;
    let taken = || StoreError::Corrupt(format!("another key has the id {}", key.id));
    row.ok_or_else(taken)?.try_into()
}

/// The key with this id; only of `owner`, if one is given.
pub(super) async fn find(
    executor: impl Executor<'_, Database = Driver>,
    key: &KeyId,
    owner: Option<UserId>,
) -> Result<Option<Key>, StoreError> {
    let row: Option<KeyRow> = sqlx::query_as(
        "select
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models
         from api_key
         where id = $1
           and user_id = coalesce($2, user_id)",
    )
    .bind(key.as_str())
    .bind(owner.map(|user| user.0))
    .fetch_optional(executor)
    .await?;
    row.map(Key::try_from).transpose()
}

/// Writes all fields of the key that can change.
pub(super) async fn update(tx: &mut Connection, key: &Key) -> Result<Key, StoreError> {
    let row: KeyRow = sqlx::query_as(
        "update api_key set
             name = $2,
             expires_at = $3,
             tokens_per_day = $4,
             requests_per_day = $5,
             models = $6
         where id = $1
         returning
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models",
    )
    .bind(key.id.as_str())
    .bind(&key.name)
    .bind(key.expires_at.map(Timestamp::as_millisecond))
    .bind(key.limits.tokens_per_day.map(encode::integer))
    .bind(key.limits.requests_per_day.map(encode::integer))
    .bind(encode::models_text(&key.limits.models))
    .fetch_one(tx)
    .await?;
    row.try_into()
}

/// Revokes the user's other keys with the name of `key`.
pub(super) async fn revoke_namesakes(
    tx: &mut Connection,
    user: UserId,
    key: &NewKey,
    now: Timestamp,
) -> Result<Vec<Key>, StoreError> {
    let rows: Vec<KeyRow> = sqlx::query_as(
        "update api_key set revoked_at = $4
         where user_id = $1
           and name = $2
           and id <> $3
           and revoked_at is null
         returning
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models",
    )
    .bind(user.0)
    .bind(&key.name)
    .bind(key.id.as_str())
    .bind(now.as_millisecond())
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Key::try_from).collect()
}

impl KeyStateRow {
    pub(super) fn limits(&self) -> Result<KeyLimits, StoreError> {
        Ok(KeyLimits {
            tokens_per_day: self.key_tokens_per_day.map(encode::count).transpose()?,
            requests_per_day: self.key_requests_per_day.map(encode::count).transpose()?,
            models: encode::models(self.key_models.as_deref())?,
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
            created_at: encode::instant(row.created_at)?,
            expires_at: row.state.expires_at.map(encode::instant).transpose()?,
            revoked_at: row.state.revoked_at.map(encode::instant).transpose()?,
        })
    }
}
