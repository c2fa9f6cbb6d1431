//! The caller record behind each key, and the users who changed.

use super::dialect::{self, Backend};
use super::key_rows::KeyStateRow;
use super::plans::LimitsRow;
use crate::StoreError;
use crate::callers::{Callers, ChangeFeed, Changed, Changes, CommitStamp};
use crate::encode;
use async_trait::async_trait;
use domain::caller::Caller;
use domain::id::{KeyId, PlanId, UserId};
use domain::key::KeyDigest;
use telemetry::labels::StoreOp;
use uuid::Uuid;

#[derive(sqlx_macros::FromRow)]
struct CallerRow {
    user_id: Uuid,
    key_id: String,
    digest: Vec<u8>,
    user_status: String,
    is_unverified: bool,
    #[sqlx(flatten)]
    key: KeyStateRow,
    plan_id: String,
    #[sqlx(flatten)]
    plan_limits: LimitsRow,
    overrides: Option<String>,
    version: i64,
}

#[async_trait]
impl Callers for Backend {
    async fn caller(&self, key: &KeyId) -> Result<Option<Caller>, StoreError> {
        self.read(StoreOp::Caller, async {
            let row: Option<CallerRow> = sqlx::query_as(
                "select
                     users.id as user_id, api_key.id as key_id, api_key.digest,
                     users.status as user_status,
                     users.email_verified_at is null as is_unverified, api_key.expires_at, api_key.revoked_at,
                     api_key.tokens_per_day as key_tokens_per_day,
                     api_key.requests_per_day as key_requests_per_day,
                     api_key.models as key_models,
                     plan.id as plan_id, plan.tokens_per_day, plan.requests_per_day,
                     plan.window_capacity, plan.window_refill_seconds, plan.concurrent_streams,
                     plan.models, plan.time_zone, plan.request_policy, plan.cached_token_thousandths,
                     users.overrides, users.version
                 from api_key
                 join users on users.id = api_key.user_id
                 join plan on plan.id = users.plan_id
                 where api_key.id = $1",
            )
            .bind(key.as_str())
            .fetch_optional(&self.pool)
            .await?;
            row.map(Caller::try_from).transpose()
        })
        .await
    }

    async fn user_version(&self, user: UserId) -> Result<Option<u64>, StoreError> {
        self.read(StoreOp::UserVersion, async {
            let version: Option<i64> =
                sqlx::query_scalar("select version from users where id = $1")
                    .bind(user.0)
                    .fetch_optional(&self.pool)
                    .await?;
            version.map(encode::count).transpose()
        })
        .await
    }
}

#[async_trait]
impl ChangeFeed for Backend {
    async fn changes(&self, since: u64) -> Result<Changes, StoreError> {
        self.read(StoreOp::Changes, async {
            let rows: Vec<(i64, Uuid, i64)> = sqlx::query_as(
                "select change_seq, id, version
                 from users
                 where change_seq > $1
                 order by change_seq",
            )
            .bind(encode::integer(since))
            .fetch_all(dialect::change_pool(self))
            .await?;
            let upto = rows.last().map_or(Ok(since), |(seq, ..)| encode::count(*seq))?;
            let changed = |(_, id, version): &(i64, Uuid, i64)| {
                Ok(Changed { user: UserId(*id), version: encode::count(*version)? })
            };
            let users = rows.iter().map(changed).collect::<Result<_, StoreError>>()?;
            Ok(Changes { upto, users })
        })
        .await
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        self.read(StoreOp::Changes, async {
            let last = sqlx::query_scalar("select coalesce(max(change_seq), 0) from users")
                .fetch_one(dialect::change_pool(self))
                .await?;
            encode::count(last)
        })
        .await
    }

    fn commit_stamp(&self) -> CommitStamp {
        dialect::commit_stamp(self)
    }

    async fn confirm_changes(&self, upto: u64) -> Result<(), StoreError> {
        self.handle.run(StoreOp::Changes, self, dialect::confirm_changes(self, upto)).await
    }

    async fn is_change_confirmed(&self, user: Option<UserId>) -> Result<bool, StoreError> {
        self.read(StoreOp::Changes, dialect::is_change_confirmed(self, user)).await
    }
}

impl TryFrom<CallerRow> for Caller {
    type Error = StoreError;

    fn try_from(row: CallerRow) -> Result<Self, StoreError> {
        let digest = <[u8; 32]>::try_from(row.digest.as_slice())
            .map_err(|_| StoreError::Corrupt("a key's hash has the wrong length".into()))?;
        let overrides = encode::overrides(row.overrides.as_deref())?;
        Ok(Self {
            user: UserId(row.user_id),
            key: KeyId(row.key_id.into()),
            digest: KeyDigest(digest),
            user_status: encode::user_status(&row.user_status)?,
            must_verify_email: row.is_unverified,
            key_revoked: row.key.revoked_at.is_some(),
            key_expires_at: row.key.expires_at.map(encode::instant).transpose()?,
            key_limits: row.key.limits()?,
            plan: PlanId(row.plan_id.into()),
            plan_limits: overrides.over(row.plan_limits.try_into()?),
            version: encode::count(row.version)?,
        })
    }
}
