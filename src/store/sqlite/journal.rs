//! The journal's batches: leases, extensions, charges and adjustments, in one transaction.
//!
//! A batch costs the same one round trip to SQLite's thread however long it is: its entries travel
//! as one JSON array each kind, and `journal.sql` is the whole transaction. Kinds are written in the
//! order open, extend, settle, which is also the order of any one request's entries; entries of
//! different requests do not touch each other, and adjustments touch none of them.

use super::SqliteStore;
use super::checks::ChargeRow;
use crate::account::charge::{Adjustment, Charge, Lease, Source, Status};
use crate::account::id::RequestId;
use crate::store::columns::{integer, request_id};
use crate::store::{Entry, StoreError, Written};
use serde_json::{Value, json};
use std::collections::HashSet;

/// `$1` leases, `$2` extensions, `$3` charges, `$4` adjustments; answers with the requests not admitted.
const JOURNAL: &str = include_str!("journal.sql");

pub(super) async fn write(
    store: &SqliteStore,
    batch: &[Entry],
) -> Result<Vec<Written>, StoreError> {
    let arrays = Arrays::of(batch);
    let turn = store.writer.turn().await?;
    let stale: Vec<Vec<u8>> = turn
        .once(async |connection| {
            sqlx::query_scalar(JOURNAL)
                .bind(arrays.leases)
                .bind(arrays.extensions)
                .bind(arrays.charges)
                .bind(arrays.adjustments)
                .fetch_all(connection)
                .await
        })
        .await?;
    let stale: HashSet<RequestId> =
        stale.iter().map(|id| request_id(id)).collect::<Result<_, _>>()?;
    Ok(batch.iter().map(|entry| answer(entry, &stale)).collect())
}

/// Every lease left open becomes a charge. What the dead call really used is not known, so all it
/// held is charged, as one estimate of the total in `completion`.
pub(super) async fn abandon(store: &SqliteStore) -> Result<Vec<Charge>, StoreError> {
    let mut turn = store.writer.turn().await?;
    let mut tx = turn.begin().await?;
    let rows: Vec<ChargeRow> = sqlx::query_as(
        "insert into usage_event (
             request, user_id, key_id, model, upstream, day, admitted_at,
             prompt, cached, completion, reasoning, cost_micro_dollars,
             status, source, counted, first_token_ms, total_ms
         )
         select
             request, user_id, key_id, model, '', day, admitted_at,
             0, 0, reserved, 0, 0,
             ?1, ?2, 1, null, 0
         from lease
         where true
         on conflict (request) do nothing
         returning
             request, user_id, key_id, model, upstream, day, admitted_at,
             prompt, cached, completion, reasoning, cost_micro_dollars,
             status, source, counted, first_token_ms, total_ms, client_request_id",
    )
    .bind(Status::Abandoned.as_str())
    .bind(Source::Estimated.as_str())
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query("delete from lease").execute(&mut *tx).await?;
    tx.commit().await?;
    rows.into_iter().map(Charge::try_from).collect()
}

fn answer(entry: &Entry, stale: &HashSet<RequestId>) -> Written {
    match entry {
        Entry::Open(lease) if stale.contains(&lease.request) => Written::Stale,
        _ => Written::Done,
    }
}

/// The entries of each kind as a JSON array.
struct Arrays {
    leases: String,
    extensions: String,
    charges: String,
    adjustments: String,
}

impl Arrays {
    fn of(batch: &[Entry]) -> Self {
        let (mut leases, mut extensions) = (Vec::new(), Vec::new());
        let (mut charges, mut adjustments) = (Vec::new(), Vec::new());
        for entry in batch {
            match entry {
                Entry::Open(lease) => leases.push(lease_row(lease)),
                Entry::Extend { request, reserved } => {
                    extensions.push(extension_row(*request, *reserved));
                }
                Entry::Settle(charge) => charges.push(charge_row(charge)),
                Entry::Adjust(adjustment) => adjustments.push(adjustment_row(adjustment)),
            }
        }
        let text = |entries| Value::Array(entries).to_string();
        Self {
            leases: text(leases),
            extensions: text(extensions),
            charges: text(charges),
            adjustments: text(adjustments),
        }
    }
}

fn lease_row(lease: &Lease) -> Value {
    json!([
        hex(lease.request),
        lease.user.0.simple().to_string(),
        lease.key.as_str(),
        integer(lease.version),
        lease.model,
        lease.day.to_string(),
        integer(lease.reserved),
        lease.admitted_at.as_millisecond(),
    ])
}

fn extension_row(request: RequestId, reserved: u64) -> Value {
    json!([hex(request), integer(reserved)])
}

fn charge_row(charge: &Charge) -> Value {
    json!([
        hex(charge.request),
        charge.user.0.simple().to_string(),
        charge.key.as_str(),
        charge.model,
        charge.upstream,
        charge.day.to_string(),
        charge.admitted_at.as_millisecond(),
        integer(charge.tokens.prompt),
        integer(charge.tokens.cached),
        integer(charge.tokens.completion),
        integer(charge.tokens.reasoning),
        charge.cost_micro_dollars,
        charge.status.as_str(),
        charge.source.as_str(),
        i32::from(charge.counted),
        charge.first_token_ms,
        charge.total_ms,
        charge.client_request_id,
    ])
}

fn adjustment_row(adjustment: &Adjustment) -> Value {
    json!([
        hex(adjustment.reset),
        adjustment.user.0.simple().to_string(),
        adjustment.key.as_str(),
        adjustment.day.to_string(),
        adjustment.tokens,
        adjustment.requests,
        adjustment.at.as_millisecond(),
        adjustment.by,
    ])
}

fn hex(request: RequestId) -> String {
    request.0.simple().to_string()
}
