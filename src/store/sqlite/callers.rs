//! The caller record behind each key, and who changed.

use super::SqliteStore;
use super::keys::KeyStateRow;
use super::plans::LimitsRow;
use crate::account::caller::Caller;
use crate::account::id::{KeyId, PlanId, UserId};
use crate::account::key::KeyDigest;
use crate::store::columns;
use crate::store::{Changed, Changes, StoreError};

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
    overrides: Option<String>,
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
             plan.models, plan.time_zone, plan.request_policy,
             users.overrides, users.version
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
    let rows: Vec<(i64, Vec<u8>, i64)> = sqlx::query_as(
        "select change_seq, id, version from users where change_seq > ?1 order by change_seq",
    )
    .bind(columns::integer(since))
    .fetch_all(&store.watcher)
    .await?;
    let upto = rows.last().map_or(Ok(since), |(seq, ..)| columns::count(*seq))?;
    let users = rows
        .iter()
        .map(|(_, id, version)| {
            Ok(Changed { user: columns::user_id(id)?, version: columns::count(*version)? })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Changes { upto, users })
}

pub(super) async fn last_change(store: &SqliteStore) -> Result<u64, StoreError> {
    let last = sqlx::query_scalar("select coalesce(max(change_seq), 0) from users")
        .fetch_one(&store.watcher)
        .await?;
    columns::count(last)
}

impl TryFrom<CallerRow> for Caller {
    type Error = StoreError;

    fn try_from(row: CallerRow) -> Result<Self, StoreError> {
        let digest = <[u8; 32]>::try_from(row.digest.as_slice())
            .map_err(|_| StoreError::Corrupt("a key's hash has the wrong length".into()))?;
        let overrides = columns::overrides(row.overrides.as_deref())?;
        Ok(Self {
            user: columns::user_id(&row.user_id)?,
            key: KeyId(row.key_id.into()),
            digest: KeyDigest(digest),
            user_status: columns::user_status(&row.user_status)?,
            key_revoked: row.key.revoked_at.is_some(),
            key_expires_at: row.key.expires_at.map(columns::instant).transpose()?,
            key_limits: row.key.limits()?,
            plan: PlanId(row.plan_id.into()),
            plan_limits: overrides.over(row.plan_limits.try_into()?),
            version: columns::count(row.version)?,
        })
    }
}
