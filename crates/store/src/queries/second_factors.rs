//! Second factors. Statements that belong together lock the user's row first, so that they cannot deadlock.

use super::dialect::{Backend, Connection};
use super::{audit, sessions, users};
use crate::StoreError;
use crate::audit::Change;
use crate::encode;
use crate::second_factors::{Enabling, SecondFactor, SecondFactors};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::UserId;
use domain::second_factor::{CodeDigest, SealedSecret};
use domain::user::UserStatus;
use jiff::Timestamp;
use telemetry::labels::StoreOp;

/// A second factor as it is stored, with the number of unused recovery codes.
#[derive(sqlx_macros::FromRow)]
struct SecondFactorRow {
    sealed_secret: Vec<u8>,
    enabled_at: Option<i64>,
    recovery_codes: i64,
}

#[async_trait]
impl SecondFactors for Backend {
    async fn second_factor(&self, user: UserId) -> Result<Option<SecondFactor>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let row: Option<SecondFactorRow> = sqlx::query_as(
                "select
                     sealed_secret,
                     enabled_at,
                     (select count(*)
                      from recovery_code
                      where user_id = $1 and used_at is null) as recovery_codes
                 from second_factor
                 where user_id = $1",
            )
            .bind(user.0)
            .fetch_optional(&self.pool)
            .await?;
            row.map(SecondFactor::try_from).transpose()
        })
        .await
    }

    async fn begin_second_factor(
        &self,
        user: UserId,
        secret: &SealedSecret,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            let found = users::lock(tx, user).await?;
            let is_active = found.is_some_and(|found| found.user.status == UserStatus::Active);
            if !is_active {
                return Err(StoreError::Missing("user"));
            }
            let done = sqlx::query(
                "insert into second_factor (user_id, sealed_secret, created_at)
                 values ($1, $2, $3)
                 on conflict (user_id) do update set
                     sealed_secret = excluded.sealed_secret,
                     created_at = excluded.created_at
                 where second_factor.enabled_at is null",
            )
            .bind(user.0)
            .bind(secret.0.to_vec())
            .bind(now.as_millisecond())
            .execute(tx)
            .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn enable_second_factor(
        &self,
        enabling: &Enabling,
        by: &AuditContext,
    ) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            users::lock(tx, enabling.user).await?;
            if !enable(tx, enabling, by.at).await? {
                return Ok(false);
            }
            replace_codes(tx, enabling.user, &enabling.recovery_codes).await?;
            sessions::end_others(tx, enabling.user, enabling.session).await?;
            let change = Change::of_second_factor("second_factor.enable", enabling.user);
            audit::append(tx, &change, by).await?;
            Ok(true)
        })
        .await
    }

    async fn accept_totp(&self, user: UserId, step: i64) -> Result<bool, StoreError> {
        self.write(StoreOp::Sessions, async |connection| {
            let done = sqlx::query(
                "update second_factor set last_step = $2
                 where user_id = $1
                   and last_step < $2
                   and enabled_at is not null",
            )
            .bind(user.0)
            .bind(step)
            .execute(connection)
            .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn accept_recovery_code(
        &self,
        user: UserId,
        code: &CodeDigest,
        by: &AuditContext,
    ) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            users::lock(tx, user).await?;
            let done = sqlx::query(
                "update recovery_code set used_at = $3
                 where user_id = $1
                   and digest = $2
                   and used_at is null",
            )
            .bind(user.0)
            .bind(code.to_vec())
            .bind(by.at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            let change = Change::of_second_factor("second_factor.use_recovery_code", user);
            audit::append(tx, &change, by).await?;
            Ok(true)
        })
        .await
    }

    async fn replace_recovery_codes(
        &self,
        user: UserId,
        codes: &[CodeDigest],
        by: &AuditContext,
    ) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            users::lock(tx, user).await?;
            if !is_enabled(tx, user).await? {
                return Ok(false);
            }
            replace_codes(tx, user, codes).await?;
            let change = Change::of_second_factor("second_factor.new_recovery_codes", user);
            audit::append(tx, &change, by).await?;
            Ok(true)
        })
        .await
    }

    async fn remove_second_factor(
        &self,
        user: UserId,
        by: &AuditContext,
    ) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            users::lock(tx, user).await?;
            remove_audited(tx, user, by).await
        })
        .await
    }
}

/// Removes the second factor of a user, who is locked. True if it was enabled, which is then audited.
pub(super) async fn remove_audited(
    tx: &mut Connection,
    user: UserId,
    by: &AuditContext,
) -> Result<bool, StoreError> {
    let was_enabled = is_enabled(tx, user).await?;
    remove(tx, user).await?;
    if was_enabled {
        let change = Change::of_second_factor("second_factor.disable", user);
        audit::append(tx, &change, by).await?;
    }
    Ok(was_enabled)
}

/// Deletes the second factor of a user, enabled or not, with its recovery codes.
pub(super) async fn remove(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    replace_codes(tx, user, &[]).await?;
    sqlx::query("delete from second_factor where user_id = $1").bind(user.0).execute(tx).await?;
    Ok(())
}

async fn enable(
    tx: &mut Connection,
    enabling: &Enabling,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "update second_factor set
             enabled_at = $3,
             last_step = $4
         where user_id = $1
           and sealed_secret = $2
           and enabled_at is null",
    )
    .bind(enabling.user.0)
    .bind(enabling.secret.0.to_vec())
    .bind(now.as_millisecond())
    .bind(enabling.step)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn is_enabled(tx: &mut Connection, user: UserId) -> Result<bool, StoreError> {
    let enabled: Option<i32> = sqlx::query_scalar(
        "select 1 from second_factor where user_id = $1 and enabled_at is not null",
    )
    .bind(user.0)
    .fetch_optional(tx)
    .await?;
    Ok(enabled.is_some())
}

async fn replace_codes(
    tx: &mut Connection,
    user: UserId,
    codes: &[CodeDigest],
) -> Result<(), StoreError> {
    sqlx::query("delete from recovery_code where user_id = $1")
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
    for code in codes {
        sqlx::query("insert into recovery_code (user_id, digest) values ($1, $2)")
            .bind(user.0)
            .bind(code.to_vec())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

impl TryFrom<SecondFactorRow> for SecondFactor {
    type Error = StoreError;

    fn try_from(row: SecondFactorRow) -> Result<Self, StoreError> {
        Ok(Self {
            secret: encode::sealed_secret(&row.sealed_secret)?,
            enabled_at: row.enabled_at.map(encode::instant).transpose()?,
            recovery_codes: encode::small(row.recovery_codes)?,
        })
    }
}
