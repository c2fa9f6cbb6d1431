//! Keys. Every change gives the key's user the next version.

use super::PostgresStore;
use super::accounts::{constraint, hold_changes};
use super::audit;
use crate::account::by::By;
use crate::account::id::{KeyId, UserId};
use crate::account::key::{Key, KeyLimits};
use crate::store::audit::Change;
use crate::store::columns;
use crate::store::{KeyChange, KeyFilter, LIVE_KEYS, NewKey, REVOKED_KEYS, StoreError};
use jiff::Timestamp;
use sqlx::PgConnection;
use sqlx::error::ErrorKind;
use uuid::Uuid;

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
pub(super) struct KeyStateRow {
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    key_tokens_per_day: Option<i64>,
    key_requests_per_day: Option<i64>,
    key_models: Option<String>,
}

pub(super) async fn of_user(
    store: &PostgresStore,
    user: UserId,
    filter: &KeyFilter,
    limit: u32,
) -> Result<Vec<Key>, StoreError> {
    // No key has a place before this one.
    let start = (i64::MIN, KeyId::from(""));
    let after = filter.after.clone().map_or(start, |(at, id)| (at.as_millisecond(), id));
    let rows: Vec<KeyRow> = sqlx::query_as(
        "select
             id, name, last_four, created_at, expires_at, revoked_at,
             tokens_per_day as key_tokens_per_day, requests_per_day as key_requests_per_day,
             models as key_models
         from api_key
         where user_id = $1
           and (not $2 or revoked_at is null)
           and (created_at, id) > ($3, $4)
         order by created_at, id
         limit $5",
    )
    .bind(user.0)
    .bind(filter.live)
    .bind(after.0)
    .bind(after.1.as_str())
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(Key::try_from).collect()
}

pub(super) async fn one_of_user(
    store: &PostgresStore,
    user: UserId,
    key: &KeyId,
) -> Result<Option<Key>, StoreError> {
    let mut connection = store.pool.acquire().await?;
    find(&mut connection, key, Some(user)).await
}

/// Adding the same key again changes nothing; another key under its id is refused.
pub(super) async fn add(
    store: &PostgresStore,
    user: UserId,
    key: &NewKey,
    by: &By,
) -> Result<Key, StoreError> {
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    let is_new = insert(&mut tx, user, key).await?;
    let added = same(&mut tx, user, key).await?;
    if is_new {
        bound(&mut tx, user).await?;
        prune_revoked(&mut tx, user).await?;
        audit::write(&mut tx, &Change::of_key("key.add", None, &added), by).await?;
        touch_user(&mut tx, user).await?;
    }
    tx.commit().await?;
    Ok(added)
}

/// Of the keys that a user has revoked the latest stay, however fast they are replaced.
async fn prune_revoked(tx: &mut PgConnection, user: UserId) -> Result<(), StoreError> {
    sqlx::query(
        "delete from api_key
         where user_id = $1
           and revoked_at is not null
           and id not in (
               select id
               from api_key
               where user_id = $1 and revoked_at is not null
               order by revoked_at desc, id desc
               limit $2
           )",
    )
    .bind(user.0)
    .bind(i64::from(REVOKED_KEYS))
    .execute(tx)
    .await?;
    Ok(())
}

/// Counted where it is added: many at once must not come past the bound together.
async fn bound(tx: &mut PgConnection, user: UserId) -> Result<(), StoreError> {
    let live: i64 = sqlx::query_scalar(
        "select count(*) from api_key where user_id = $1 and revoked_at is null",
    )
    .bind(user.0)
    .fetch_one(tx)
    .await?;
    if columns::count(live)? > LIVE_KEYS as u64 { Err(StoreError::TooManyKeys) } else { Ok(()) }
}

/// A key that is there already replaces nothing again: its successors may have come since.
pub(super) async fn replace(
    store: &PostgresStore,
    user: UserId,
    key: &NewKey,
    by: &By,
) -> Result<Key, StoreError> {
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    let is_new = insert(&mut tx, user, key).await?;
    let added = same(&mut tx, user, key).await?;
    if is_new {
        for old in revoke_namesakes(&mut tx, user, key, by.at).await? {
            audit::write(&mut tx, &of_revoked(&old), by).await?;
        }
        bound(&mut tx, user).await?;
        prune_revoked(&mut tx, user).await?;
        audit::write(&mut tx, &Change::of_key("key.add", None, &added), by).await?;
        touch_user(&mut tx, user).await?;
    }
    tx.commit().await?;
    Ok(added)
}

pub(super) async fn change(
    store: &PostgresStore,
    user: UserId,
    key: &KeyId,
    change: &KeyChange,
    by: &By,
) -> Result<Option<Key>, StoreError> {
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    let before = find(&mut tx, key, Some(user)).await?;
    let Some(before) = before.filter(|key| key.revoked_at.is_none()) else { return Ok(None) };
    let after = update(&mut tx, &change.applied_to(before.clone())).await?;
    if after != before {
        audit::write(&mut tx, &Change::of_key("key.change", Some(&before), &after), by).await?;
        touch_user(&mut tx, user).await?;
    }
    tx.commit().await?;
    Ok(Some(after))
}

pub(super) async fn revoke(
    store: &PostgresStore,
    key: &KeyId,
    by: &By,
) -> Result<Option<Key>, StoreError> {
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    let owner: Option<Uuid> = sqlx::query_scalar(
        "update api_key set revoked_at = $2
         where id = $1
           and revoked_at is null
         returning user_id",
    )
    .bind(key.as_str())
    .bind(by.at.as_millisecond())
    .fetch_optional(&mut *tx)
    .await?;
    let found = find(&mut tx, key, None).await?;
    if let (Some(owner), Some(revoked)) = (owner, &found) {
        audit::write(&mut tx, &of_revoked(revoked), by).await?;
        touch_user(&mut tx, UserId(owner)).await?;
    }
    tx.commit().await?;
    Ok(found)
}

async fn insert(tx: &mut PgConnection, user: UserId, key: &NewKey) -> Result<bool, StoreError> {
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

/// The key under the id of `key`, which must be that very key.
async fn same(tx: &mut PgConnection, user: UserId, key: &NewKey) -> Result<Key, StoreError> {
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

/// A key, of `owner` alone where one is given.
async fn find(
    tx: &mut PgConnection,
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
    .fetch_optional(tx)
    .await?;
    row.map(Key::try_from).transpose()
}

/// Makes the key what is given.
async fn update(tx: &mut PgConnection, key: &Key) -> Result<Key, StoreError> {
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
    .bind(key.limits.tokens_per_day.map(columns::integer))
    .bind(key.limits.requests_per_day.map(columns::integer))
    .bind(columns::models_text(&key.limits.models))
    .fetch_one(tx)
    .await?;
    row.try_into()
}

/// Revokes the user's other keys with the name of `key`.
async fn revoke_namesakes(
    tx: &mut PgConnection,
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

/// Of a key that was not revoked until now.
fn of_revoked(key: &Key) -> Change {
    let before = Key { revoked_at: None, ..key.clone() };
    Change::of_key("key.revoke", Some(&before), key)
}

/// Gives the user the next version: the user's calls must load the record again.
async fn touch_user(tx: &mut PgConnection, user: UserId) -> Result<(), StoreError> {
    sqlx::query(
        "with number as (
             update change_number set last = last + 1 returning last
         )
         update users set
             version = version + 1,
             change_seq = number.last
         from number
         where id = $1",
    )
    .bind(user.0)
    .execute(tx)
    .await?;
    Ok(())
}

impl KeyStateRow {
    pub(super) fn limits(&self) -> Result<KeyLimits, StoreError> {
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
