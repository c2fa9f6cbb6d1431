//! Keys. Every change gives the key's user the next version.

use super::audit;
use super::dialect::{self, Backend, Connection};
use super::key_rows::{
    KeyRow, OwnedKeyRow, find, find_same, insert, owner_of, revoke_namesakes, update,
};
use super::users::bump_user_version;
use crate::StoreError;
use crate::audit::Change;
use crate::encode;
use crate::keys::{KeyChange, KeyFilter, Keys, LIVE_KEYS, NewKey, REVOKED_KEYS};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::{KeyId, UserId};
use domain::key::Key;
use jiff::Timestamp;
use telemetry::labels::StoreOp;

#[async_trait]
impl Keys for Backend {
    /// Another key with the same id is refused.
    async fn add_key(
        &self,
        user: UserId,
        key: &NewKey,
        by: &AuditContext,
    ) -> Result<Key, StoreError> {
        let added = self
            .transaction(StoreOp::Accounts, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let is_new = insert(tx, user, key).await?;
                let added = find_same(tx, user, key).await?;
                if is_new {
                    finish_adding(tx, user, &added, by).await?;
                }
                Ok::<_, StoreError>(added)
            })
            .await?;
        self.handle.publish_new_key(user).await;
        Ok(added)
    }

    async fn change_key(
        &self,
        user: UserId,
        key: &KeyId,
        change: &KeyChange,
        by: &AuditContext,
    ) -> Result<Option<Key>, StoreError> {
        let changed = self
            .transaction(StoreOp::Accounts, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let before = find(&mut *tx, key, Some(user)).await?;
                let Some(before) = before.filter(|key| key.revoked_at.is_none()) else {
                    return Ok(None);
                };
                let after = update(tx, &change.applied_to(before.clone())).await?;
                if after != before {
                    let change = Change::of_key("key.change", Some(&before), &after);
                    audit::append(tx, &change, by).await?;
                    bump_user_version(tx, user).await?;
                }
                Ok::<_, StoreError>(Some(after))
            })
            .await?;
        self.handle.publish(Some(user)).await?;
        Ok(changed)
    }

    /// A key that exists already revokes no others: they may be its successors.
    async fn replace_key(
        &self,
        user: UserId,
        key: &NewKey,
        by: &AuditContext,
    ) -> Result<Key, StoreError> {
        let added = self
            .transaction(StoreOp::Accounts, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let is_new = insert(tx, user, key).await?;
                let added = find_same(tx, user, key).await?;
                if is_new {
                    for old in revoke_namesakes(tx, user, key, by.at).await? {
                        audit::append(tx, &of_revoked(&old), by).await?;
                    }
                    finish_adding(tx, user, &added, by).await?;
                }
                Ok::<_, StoreError>(added)
            })
            .await?;
        self.handle.publish_new_key(user).await;
        Ok(added)
    }

    async fn rotate_key(
        &self,
        user: UserId,
        (old, old_ends_at): (&KeyId, Option<Timestamp>),
        key: &NewKey,
        by: &AuditContext,
    ) -> Result<Option<Key>, StoreError> {
        let added = self
            .transaction(StoreOp::Accounts, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let old = find(&mut *tx, old, Some(user)).await?;
                let Some(old) = old.filter(|old| old.revoked_at.is_none()) else {
                    // The new key is there if this rotation was done before.
                    return find(&mut *tx, &key.id, Some(user)).await;
                };
                let is_new = insert(tx, user, key).await?;
                let added = find_same(tx, user, key).await?;
                if is_new {
                    retire(tx, &old, old_ends_at, by).await?;
                    finish_adding(tx, user, &added, by).await?;
                }
                Ok::<_, StoreError>(Some(added))
            })
            .await?;
        self.handle.publish_new_key(user).await;
        Ok(added)
    }

    async fn keys(
        &self,
        user: UserId,
        filter: &KeyFilter,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError> {
        self.read(StoreOp::Accounts, async {
            // No key comes before this place in the list.
            let start = (i64::MIN, KeyId::from(""));
            let after = filter.after.clone().map_or(start, |(at, id)| (at.as_millisecond(), id));
            let rows: Vec<KeyRow> = sqlx::query_as(
                "select
                     id, name, last_four, created_at, expires_at, revoked_at,
                     tokens_per_day as key_tokens_per_day,
                     requests_per_day as key_requests_per_day,
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
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(Key::try_from).collect()
        })
        .await
    }

    async fn key(&self, user: UserId, key: &KeyId) -> Result<Option<Key>, StoreError> {
        self.read(StoreOp::Accounts, find(&self.pool, key, Some(user))).await
    }

    async fn find_keys(&self, text: &str, limit: u32) -> Result<Vec<(UserId, Key)>, StoreError> {
        self.read(StoreOp::Accounts, async {
            let rows: Vec<OwnedKeyRow> = sqlx::query_as(
                "select
                     user_id, id, name, last_four, created_at, expires_at, revoked_at,
                     tokens_per_day as key_tokens_per_day,
                     requests_per_day as key_requests_per_day,
                     models as key_models
                 from api_key
                 where id = $1 or last_four = $1
                 order by created_at desc, id
                 limit $2",
            )
            .bind(text)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(|row| Ok((UserId(row.user_id), row.key.try_into()?))).collect()
        })
        .await
    }

    async fn revoke_key(&self, key: &KeyId, by: &AuditContext) -> Result<Option<Key>, StoreError> {
        let (owner, revoked) = self
            .transaction(StoreOp::Accounts, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let is_new = revoke(tx, key, by.at).await?;
                let Some(owner) = owner_of(tx, key).await? else { return Ok((None, None)) };
                let revoked = find(&mut *tx, key, None).await?;
                if let (true, Some(revoked)) = (is_new, &revoked) {
                    audit::append(tx, &of_revoked(revoked), by).await?;
                    bump_user_version(tx, owner).await?;
                }
                Ok::<_, StoreError>((Some(owner), revoked))
            })
            .await?;
        self.handle.publish(owner).await?;
        Ok(revoked)
    }
}

/// Enforces the limits on the user's keys, and audits the new one.
async fn finish_adding(
    tx: &mut Connection,
    user: UserId,
    added: &Key,
    by: &AuditContext,
) -> Result<(), StoreError> {
    check_live_keys(tx, user).await?;
    delete_surplus(tx, user).await?;
    audit::append(tx, &Change::of_key("key.add", None, added), by).await?;
    bump_user_version(tx, user).await
}

/// Deletes revoked keys of the user beyond the [`REVOKED_KEYS`] latest.
async fn delete_surplus(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
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

/// Counts in the transaction that adds, so that concurrent calls cannot exceed the limit together.
async fn check_live_keys(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    let live: i64 = sqlx::query_scalar(
        "select count(*) from api_key where user_id = $1 and revoked_at is null",
    )
    .bind(user.0)
    .fetch_one(tx)
    .await?;
    if encode::count(live)? > LIVE_KEYS as u64 { Err(StoreError::TooManyKeys) } else { Ok(()) }
}

/// Revokes a key; false if it does not exist or was revoked before.
async fn revoke(tx: &mut Connection, key: &KeyId, now: Timestamp) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "update api_key set revoked_at = $2
         where id = $1
           and revoked_at is null",
    )
    .bind(key.as_str())
    .bind(now.as_millisecond())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Revokes all keys of a user.
pub(super) async fn revoke_all(
    tx: &mut Connection,
    user: UserId,
    by: &AuditContext,
) -> Result<(), StoreError> {
    let live: Vec<String> = sqlx::query_scalar(
        "select id
         from api_key
         where user_id = $1
           and revoked_at is null",
    )
    .bind(user.0)
    .fetch_all(&mut *tx)
    .await?;
    for key in live.iter().map(|key| KeyId::from(&**key)) {
        revoke(tx, &key, by.at).await?;
        if let Some(revoked) = find(&mut *tx, &key, None).await? {
            audit::append(tx, &of_revoked(&revoked), by).await?;
        }
    }
    Ok(())
}

/// Revokes a key that another one replaces, or lets it expire at `ends_at` at the latest.
async fn retire(
    tx: &mut Connection,
    old: &Key,
    ends_at: Option<Timestamp>,
    by: &AuditContext,
) -> Result<(), StoreError> {
    let Some(ends_at) = ends_at else {
        revoke(tx, &old.id, by.at).await?;
        let revoked = find(&mut *tx, &old.id, None).await?;
        if let Some(revoked) = revoked {
            audit::append(tx, &of_revoked(&revoked), by).await?;
        }
        return Ok(());
    };
    let expires_at = Some(old.expires_at.map_or(ends_at, |expiry| expiry.min(ends_at)));
    let after = update(tx, &Key { expires_at, ..old.clone() }).await?;
    if after != *old {
        audit::append(tx, &Change::of_key("key.change", Some(old), &after), by).await?;
    }
    Ok(())
}

/// The audited change of a key that was just revoked.
fn of_revoked(key: &Key) -> Change {
    let before = Key { revoked_at: None, ..key.clone() };
    Change::of_key("key.revoke", Some(&before), key)
}
