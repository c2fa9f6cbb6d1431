//! Whose the replies are that upstreams keep.

use super::PostgresStore;
use crate::account::id::UserId;
use crate::account::kept::KeptReply;
use crate::store::StoreError;
use crate::store::columns;
use crate::store::kept::{KeptReplies, SWEPT_AT_ONCE};
use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

/// A reply as it is stored.
#[derive(sqlx::FromRow)]
struct KeptRow {
    id: String,
    user_id: Uuid,
    upstream: String,
    model: String,
    tokens: i64,
    expires_at: i64,
}

#[async_trait]
impl KeptReplies for PostgresStore {
    async fn keep_reply(&self, reply: &KeptReply, now: Timestamp) -> Result<bool, StoreError> {
        // By itself, and past rows that somebody else takes away: nobody waits for another here.
        sqlx::query(
            "delete from kept_reply
             where id in (
                 select id from kept_reply where expires_at <= $1 limit $2 for update skip locked
             )",
        )
        .bind(now.as_millisecond())
        .bind(i64::from(SWEPT_AT_ONCE))
        .execute(&self.pool)
        .await?;
        let kept = sqlx::query(
            "insert into kept_reply (id, user_id, upstream, model, tokens, expires_at)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (id) do update
             set tokens = greatest(kept_reply.tokens, excluded.tokens)
             where kept_reply.user_id = excluded.user_id
               and kept_reply.upstream = excluded.upstream",
        )
        .bind(columns::text(&reply.id))
        .bind(reply.user.0)
        .bind(&reply.upstream)
        .bind(&reply.model)
        .bind(columns::integer(reply.tokens))
        .bind(reply.expires_at.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(kept.rows_affected() > 0)
    }

    async fn kept_reply(&self, id: &str, now: Timestamp) -> Result<Option<KeptReply>, StoreError> {
        let row: Option<KeptRow> = sqlx::query_as(
            "select id, user_id, upstream, model, tokens, expires_at
             from kept_reply
             where id = $1 and expires_at > $2",
        )
        .bind(columns::text(id))
        .bind(now.as_millisecond())
        .fetch_optional(&self.pool)
        .await?;
        row.map(KeptReply::try_from).transpose()
    }

    async fn claim_reply(
        &self,
        id: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let claimed = sqlx::query(
            "update kept_reply
             set claimed_until = $3
             where id = $1 and expires_at > $2 and claimed_until <= $2",
        )
        .bind(columns::text(id))
        .bind(now.as_millisecond())
        .bind(until.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(claimed.rows_affected() > 0)
    }

    async fn release_reply(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("update kept_reply set claimed_until = 0 where id = $1")
            .bind(columns::text(id))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn forget_reply(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("delete from kept_reply where id = $1")
            .bind(columns::text(id))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

impl TryFrom<KeptRow> for KeptReply {
    type Error = StoreError;

    fn try_from(row: KeptRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            upstream: row.upstream,
            model: row.model,
            tokens: columns::count(row.tokens)?,
            expires_at: columns::instant(row.expires_at)?,
        })
    }
}
