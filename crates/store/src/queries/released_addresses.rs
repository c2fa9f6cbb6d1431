//! E-mail addresses that an account gave up. No other account can be registered with one
//! for [`ADDRESS_RESERVED_HOURS`].

use super::dialect::Connection;
use crate::StoreError;
use crate::encode;
use crate::users::{ADDRESS_RESERVED_HOURS, UserError};
use domain::actor::{Actor, AuditContext};
use domain::id::UserId;
use domain::server_secret::ServerSecret;
use domain::user::User;
use jiff::{SignedDuration, Timestamp};

/// Fails if another account than `user` gave this address up too recently.
pub(super) async fn check(
    tx: &mut Connection,
    (user, email): (Option<UserId>, &str),
    secret: &ServerSecret,
    now: Timestamp,
) -> Result<(), UserError> {
    let until: Option<i64> = sqlx::query_scalar(
        "select reserved_until
         from released_address
         where digest = $1
           and reserved_until > $2
           and ($3 is null or user_id <> $3)",
    )
    .bind(secret.address_digest(email).to_vec())
    .bind(now.as_millisecond())
    .bind(user.map(|user| user.0))
    .fetch_optional(tx)
    .await
    .map_err(StoreError::from)?;
    match until {
        Some(until) => Err(UserError::AddressReserved(encode::instant(until)?)),
        None => Ok(()),
    }
}

/// Records that a user has another address now. Users who change their own may not take one that is reserved.
pub(super) async fn exchange(
    tx: &mut Connection,
    (before, after): (&User, &User),
    secret: &ServerSecret,
    by: &AuditContext,
) -> Result<(), UserError> {
    if before.email == after.email {
        return Ok(());
    }
    if by.actor == Actor::User(before.id) {
        check(tx, (Some(before.id), &after.email), secret, by.at).await?;
    }
    Ok(release(tx, before, secret, by.at).await?)
}

/// Reserves the address of a user who gives it up at `now`.
pub(super) async fn release(
    tx: &mut Connection,
    user: &User,
    secret: &ServerSecret,
    now: Timestamp,
) -> Result<(), StoreError> {
    let until = now + SignedDuration::from_hours(ADDRESS_RESERVED_HOURS);
    sqlx::query(
        "insert into released_address (digest, user_id, reserved_until)
         values ($1, $2, $3)
         on conflict (digest) do update set
             user_id = excluded.user_id,
             reserved_until = excluded.reserved_until",
    )
    .bind(secret.address_digest(&user.email).to_vec())
    .bind(user.id.0)
    .bind(until.as_millisecond())
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes rows of addresses that are not reserved any more.
pub(super) async fn prune(tx: &mut Connection, now: i64, most: u32) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from released_address
         where digest in (select digest from released_address where reserved_until <= $1 limit $2)",
    )
    .bind(now)
    .bind(i64::from(most))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
