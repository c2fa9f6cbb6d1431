//! The audit log.

use super::dialect::{Backend, Connection, Driver};
use crate::StoreError;
use crate::audit::{Audit, AuditEntry, AuditFilter, Change};
use crate::encode;
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id;
use jiff::{SignedDuration, Timestamp};
use sqlx::QueryBuilder;
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// More than the time from a change to its entry, and than clocks of two gateways differ.
const MAX_WRITE_DELAY: SignedDuration = SignedDuration::from_hours(1);

/// An entry as it is stored.
#[derive(sqlx_macros::FromRow)]
struct EntryRow {
    id: Uuid,
    at: i64,
    actor: String,
    action: String,
    subject: String,
    before: Option<String>,
    after: Option<String>,
    request: Option<String>,
}

#[async_trait]
impl Audit for Backend {
    async fn append_audit(&self, change: &Change, by: &AuditContext) -> Result<(), StoreError> {
        self.write(StoreOp::Audit, async |connection| append(connection, change, by).await).await
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(StoreOp::Audit, async {
            // Only the conditions that apply, so that each uses its index.
            let mut query = QueryBuilder::<Driver>::new(
                "select id, at, actor, action, subject, before, after, request
                 from audit
                 where true",
            );
            if let Some(actor) = &filter.actor {
                query.push(" and actor = ").push_bind(actor);
            }
            if let Some(subject) = &filter.subject {
                query.push(" and subject = ").push_bind(subject);
            }
            if let Some(action) = &filter.action {
                query.push(" and action = ").push_bind(action);
            }
            push_time(&mut query, filter);
            if let Some(before) = before {
                query.push(" and id < ").push_bind(before);
            }
            query.push(" order by id desc limit ").push_bind(i64::from(limit));
            let rows: Vec<EntryRow> = query.build_query_as().fetch_all(&self.pool).await?;
            rows.into_iter().map(AuditEntry::try_from).collect()
        })
        .await
    }
}

/// Adds the condition that a change was made from `from` until `until`. Ids begin with the time at which their entry
/// was written, which is soon after the change: so a range of ids bounds what is read.
fn push_time(query: &mut QueryBuilder<Driver>, filter: &AuditFilter) {
    let id_at = |at: Timestamp, slack: SignedDuration| {
        let at = at.saturating_add(slack).unwrap_or(Timestamp::MAX).as_millisecond();
        Uuid::from_u128(u128::try_from(at).unwrap_or_default() << 80)
    };
    if let Some(from) = filter.from {
        query.push(" and at >= ").push_bind(from.as_millisecond());
        query.push(" and id >= ").push_bind(id_at(from, -MAX_WRITE_DELAY));
    }
    if let Some(until) = filter.until {
        query.push(" and at < ").push_bind(until.as_millisecond());
        query.push(" and id < ").push_bind(id_at(until, MAX_WRITE_DELAY));
    }
}

/// Adds the entry of a change to the transaction that makes it; no entry if nothing has changed.
pub(super) async fn append(
    tx: &mut Connection,
    change: &Change,
    by: &AuditContext,
) -> Result<(), StoreError> {
    if change.is_none() {
        return Ok(());
    }
    sqlx::query(
        "insert into audit (id, at, actor, action, subject, before, after, request)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id::sorted_by_time())
    .bind(by.at.as_millisecond())
    .bind(by.actor.to_string())
    .bind(change.action)
    .bind(encode::text(&change.subject))
    .bind(encode::json_text(change.before.as_ref()))
    .bind(encode::json_text(change.after.as_ref()))
    .bind(by.request_id.as_deref().map(encode::text))
    .execute(tx)
    .await?;
    Ok(())
}

impl TryFrom<EntryRow> for AuditEntry {
    type Error = StoreError;

    fn try_from(row: EntryRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            at: encode::instant(row.at)?,
            actor: row.actor,
            action: row.action,
            subject: row.subject,
            before: encode::json(row.before.as_deref())?,
            after: encode::json(row.after.as_deref())?,
            request: row.request,
        })
    }
}
