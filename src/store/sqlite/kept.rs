//! Whose the replies are that upstreams keep.

use super::SqliteStore;
use crate::account::id::UserId;
use crate::account::kept::KeptReply;
use crate::store::StoreError;
use crate::store::columns;
use crate::store::kept::{KeptReplies, SWEPT_AT_ONCE};
use async_trait::async_trait;
use jiff::Timestamp;

/// A reply as it is stored.
#[derive(sqlx::FromRow)]
struct KeptRow {
    id: String,
    user_id: Vec<u8>,
    upstream: String,
    model: String,
    tokens: i64,
    expires_at: i64,
}

#[async_trait]
impl KeptReplies for SqliteStore {
    async fn keep_reply(&self, reply: &KeptReply, now: Timestamp) -> Result<bool, StoreError> {
        let mut turn = self.writer.turn().await?;
        let mut tx = turn.begin().await?;
        sqlx::query(
            "delete from kept_reply
             where id in (select id from kept_reply where expires_at <= ?1 limit ?2)",
        )
        .bind(now.as_millisecond())
        .bind(SWEPT_AT_ONCE)
        .execute(&mut *tx)
        .await?;
        let kept = sqlx::query(
            "insert into kept_reply (id, user_id, upstream, model, tokens, expires_at)
             values (?1, ?2, ?3, ?4, ?5, ?6)
             on conflict (id) do update
             set tokens = max(tokens, excluded.tokens)
             where user_id = excluded.user_id and upstream = excluded.upstream",
        )
        .bind(&reply.id)
        .bind(columns::blob(reply.user.0))
        .bind(&reply.upstream)
        .bind(&reply.model)
        .bind(columns::integer(reply.tokens))
        .bind(reply.expires_at.as_millisecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(kept.rows_affected() > 0)
    }

    async fn kept_reply(&self, id: &str, now: Timestamp) -> Result<Option<KeptReply>, StoreError> {
        let row: Option<KeptRow> = sqlx::query_as(
            "select id, user_id, upstream, model, tokens, expires_at
             from kept_reply
             where id = ?1 and expires_at > ?2",
        )
        .bind(id)
        .bind(now.as_millisecond())
        .fetch_optional(&self.readers)
        .await?;
        row.map(KeptReply::try_from).transpose()
    }

    async fn claim_reply(
        &self,
        id: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut turn = self.writer.turn().await?;
        let claimed = sqlx::query(
            "update kept_reply
             set claimed_until = ?3
             where id = ?1 and expires_at > ?2 and claimed_until <= ?2",
        )
        .bind(id)
        .bind(now.as_millisecond())
        .bind(until.as_millisecond())
        .execute(&mut *turn)
        .await?;
        Ok(claimed.rows_affected() > 0)
    }

    async fn release_reply(&self, id: &str) -> Result<(), StoreError> {
        let mut turn = self.writer.turn().await?;
        sqlx::query("update kept_reply set claimed_until = 0 where id = ?1")
            .bind(id)
            .execute(&mut *turn)
            .await?;
        Ok(())
    }

    async fn forget_reply(&self, id: &str) -> Result<(), StoreError> {
        let mut turn = self.writer.turn().await?;
        sqlx::query("delete from kept_reply where id = ?1").bind(id).execute(&mut *turn).await?;
        Ok(())
    }
}

impl TryFrom<KeptRow> for KeptReply {
    type Error = StoreError;

    fn try_from(row: KeptRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            user: UserId(columns::uuid(&row.user_id)?),
            upstream: row.upstream,
            model: row.model,
            tokens: columns::count(row.tokens)?,
            expires_at: columns::instant(row.expires_at)?,
        })
    }
}
