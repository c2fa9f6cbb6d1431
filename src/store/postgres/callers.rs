//! The caller record behind each key, and who changed.

use super::PostgresStore;
use super::keys::KeyStateRow;
use super::plans::LimitsRow;
use super::writer::INSTANCE_LOCK;
use crate::account::caller::Caller;
use crate::account::id::{KeyId, PlanId, UserId};
use crate::account::key::KeyDigest;
use crate::store::columns;
use crate::store::{Changed, Changes, StoreError};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct CallerRow {
    user_id: Uuid,
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

pub(super) async fn caller(
    store: &PostgresStore,
    key: &KeyId,
) -> Result<Option<Caller>, StoreError> {
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
         where api_key.id = $1",
    )
    .bind(key.as_str())
    .fetch_optional(&store.pool)
    .await?;
    row.map(Caller::try_from).transpose()
}

pub(super) async fn user_version(
    store: &PostgresStore,
    user: UserId,
) -> Result<Option<u64>, StoreError> {
    let version: Option<i64> = sqlx::query_scalar("select version from users where id = $1")
        .bind(user.0)
        .fetch_optional(&store.pool)
        .await?;
    version.map(columns::count).transpose()
}

pub(super) async fn changes(store: &PostgresStore, since: u64) -> Result<Changes, StoreError> {
    let rows: Vec<(i64, Uuid, i64)> = sqlx::query_as(
        "select change_seq, id, version from users where change_seq > $1 order by change_seq",
    )
    .bind(columns::integer(since))
    .fetch_all(&store.pool)
    .await?;
    let upto = rows.last().map_or(Ok(since), |(seq, ..)| columns::count(*seq))?;
    let users = rows
        .iter()
        .map(|(_, id, version)| {
            Ok(Changed { user: UserId(*id), version: columns::count(*version)? })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Changes { upto, users })
}

pub(super) async fn last_change(store: &PostgresStore) -> Result<u64, StoreError> {
    let last = sqlx::query_scalar("select coalesce(max(change_seq), 0) from users")
        .fetch_one(&store.pool)
        .await?;
    columns::count(last)
}

/// Says so once for each change; the row is read again and again, and seldom written.
pub(super) async fn confirm_changes(
    store: &PostgresStore,
    epoch: i64,
    upto: u64,
) -> Result<(), StoreError> {
    let upto = columns::integer(upto);
    let confirmed: Option<i64> =
        sqlx::query_scalar("select confirmed from instance where epoch = $1")
            .bind(epoch)
            .fetch_optional(&store.pool)
            .await?;
    if confirmed.ok_or(StoreError::Superseded)? < upto {
        sqlx::query("update instance set confirmed = $2 where epoch = $1 and confirmed < $2")
            .bind(epoch)
            .bind(upto)
            .execute(&store.pool)
            .await?;
    }
    Ok(())
}

/// An instance holds its lock for as long as it lives.
pub(super) async fn is_change_confirmed(
    store: &PostgresStore,
    user: Option<UserId>,
) -> Result<bool, StoreError> {
    let confirmed = sqlx::query_scalar(
        "select instance.confirmed >= coalesce((
                 select max(change_seq) from users where $1::uuid is null or id = $1
             ), 0)
             or not exists (
                 select from pg_locks
                 where locktype = 'advisory' and granted and objsubid = 1
                   and database = (select oid from pg_database where datname = current_database())
                   and (classid::bigint << 32) | objid::bigint = $2
             )
         from instance",
    )
    .bind(user.map(|user| user.0))
    .bind(INSTANCE_LOCK)
    .fetch_one(&store.pool)
    .await?;
    Ok(confirmed)
}

impl TryFrom<CallerRow> for Caller {
    type Error = StoreError;

    fn try_from(row: CallerRow) -> Result<Self, StoreError> {
        let digest = <[u8; 32]>::try_from(row.digest.as_slice())
            .map_err(|_| StoreError::Corrupt("a key's hash has the wrong length".into()))?;
        let overrides = columns::overrides(row.overrides.as_deref())?;
        Ok(Self {
            user: UserId(row.user_id),
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
