//! The journal's batches: leases, extensions and charges, in one transaction.
//!
//! A batch costs the same few statements however long it is: its entries travel as one JSON array
//! each kind. Kinds are written in the order open, extend, settle, which is also the order of any
//! one request's entries; entries of different requests do not touch each other.

use super::SqliteStore;
use super::checks::ChargeRow;
use super::columns::{integer, request_id};
use crate::account::charge::{Charge, Lease, Source, Status};
use crate::account::id::RequestId;
use crate::store::{Entry, StoreError, Written};
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use std::collections::HashSet;

/// The request ids that `open_leases` and `known_requests` answer with.
type Known = HashSet<RequestId>;

pub(super) async fn write(
    store: &SqliteStore,
    batch: &[Entry],
) -> Result<Vec<Written>, StoreError> {
    let mut tx = store.write().await?;
    let admitted = write_leases(&mut tx, batch).await?;
    raise_leases(&mut tx, batch).await?;
    write_charges(&mut tx, batch).await?;
    tx.commit().await?;
    Ok(batch.iter().map(|entry| answer(entry, &admitted)).collect())
}

/// Every lease left open becomes a charge. What the dead call really used is not known, so all it
/// held is charged, as one estimate of the total in `completion`.
pub(super) async fn abandon(store: &SqliteStore) -> Result<Vec<Charge>, StoreError> {
    let mut tx = store.write().await?;
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
             status, source, counted, first_token_ms, total_ms",
    )
    .bind(Status::Abandoned.as_str())
    .bind(Source::Estimated.as_str())
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query("delete from lease").execute(&mut *tx).await?;
    tx.commit().await?;
    rows.into_iter().map(Charge::try_from).collect()
}

fn answer(entry: &Entry, admitted: &Known) -> Written {
    match entry {
        Entry::Open(lease) if !admitted.contains(&lease.request) => Written::Stale,
        Entry::Open(_) | Entry::Extend { .. } | Entry::Settle(_) => Written::Done,
    }
}

/// Inserts the leases of active users whose version is still the one relied on. Returns every
/// request that is admitted now: the inserted ones, and those that an earlier try had written.
async fn write_leases(tx: &mut SqliteConnection, batch: &[Entry]) -> Result<Known, StoreError> {
    let leases = array(batch, |entry| match entry {
        Entry::Open(lease) => Some(lease_json(lease)),
        Entry::Extend { .. } | Entry::Settle(_) => None,
    });
    let Some((text, count)) = leases else {
        return Ok(Known::new());
    };
    let inserted: Vec<Vec<u8>> = sqlx::query_scalar(
        "insert into lease (request, user_id, key_id, version, model, day, reserved, admitted_at)
         select
             unhex(entry.value ->> 'request'), users.id, entry.value ->> 'key', users.version,
             entry.value ->> 'model', entry.value ->> 'day', entry.value ->> 'reserved',
             entry.value ->> 'admitted_at'
         from json_each(?1) as entry
         cross join users on users.id = unhex(entry.value ->> 'user')
         where users.version = entry.value ->> 'version'
           and users.status = 'active'
           -- A lease that was settled already must not come back when its opening is repeated.
           and not exists (
               select 1 from usage_event
               where usage_event.request = unhex(entry.value ->> 'request')
           )
         on conflict (request) do nothing
         returning request",
    )
    .bind(&text)
    .fetch_all(&mut *tx)
    .await?;
    if inserted.len() == count {
        return inserted.iter().map(|id| request_id(id)).collect();
    }
    known_requests(tx, &text).await
}

/// Which of the requests are leased or settled.
async fn known_requests(tx: &mut SqliteConnection, leases: &str) -> Result<Known, StoreError> {
    let known: Vec<Vec<u8>> = sqlx::query_scalar(
        "with asked as (select unhex(value ->> 'request') as request from json_each(?1))
         select request from asked
         where exists (select 1 from lease where lease.request = asked.request)
            or exists (select 1 from usage_event where usage_event.request = asked.request)",
    )
    .bind(leases)
    .fetch_all(tx)
    .await?;
    known.iter().map(|id| request_id(id)).collect()
}

/// Raises what running calls hold. A repeated or late extension never lowers it.
async fn raise_leases(tx: &mut SqliteConnection, batch: &[Entry]) -> Result<(), StoreError> {
    let extensions = array(batch, |entry| match entry {
        Entry::Extend { request, reserved } => {
            Some(json!({ "request": hex(*request), "reserved": integer(*reserved) }))
        }
        Entry::Open(_) | Entry::Settle(_) => None,
    });
    let Some((text, _)) = extensions else {
        return Ok(());
    };
    sqlx::query(
        "update lease set reserved = raised.reserved
         from (
             select
                 unhex(value ->> 'request') as request,
                 max(value ->> 'reserved') as reserved
             from json_each(?1)
             group by 1
         ) as raised
         where lease.request = raised.request
           and lease.reserved < raised.reserved",
    )
    .bind(text)
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes the ledger rows that are not there yet (a trigger adds them to the rollup) and ends the
/// leases of all of them.
async fn write_charges(tx: &mut SqliteConnection, batch: &[Entry]) -> Result<(), StoreError> {
    let charges = array(batch, |entry| match entry {
        Entry::Settle(charge) => Some(charge_json(charge)),
        Entry::Open(_) | Entry::Extend { .. } => None,
    });
    let Some((text, _)) = charges else {
        return Ok(());
    };
    sqlx::query(
        "insert into usage_event (
             request, user_id, key_id, model, upstream, day, admitted_at,
             prompt, cached, completion, reasoning, cost_micro_dollars,
             status, source, counted, first_token_ms, total_ms
         )
         select
             unhex(value ->> 'request'), unhex(value ->> 'user'), value ->> 'key',
             value ->> 'model', value ->> 'upstream', value ->> 'day', value ->> 'admitted_at',
             value ->> 'prompt', value ->> 'cached', value ->> 'completion',
             value ->> 'reasoning', value ->> 'cost', value ->> 'status', value ->> 'source',
             value ->> 'counted', value ->> 'first_token_ms', value ->> 'total_ms'
         from json_each(?1)
         where true
         on conflict (request) do nothing",
    )
    .bind(&text)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "delete from lease
         where request in (select unhex(value ->> 'request') from json_each(?1))",
    )
    .bind(&text)
    .execute(tx)
    .await?;
    Ok(())
}

/// The entries of one kind as a JSON array, with their number; `None` when there are none.
fn array(batch: &[Entry], pick: impl FnMut(&Entry) -> Option<Value>) -> Option<(String, usize)> {
    let picked: Vec<Value> = batch.iter().filter_map(pick).collect();
    let count = picked.len();
    (count > 0).then(|| (Value::Array(picked).to_string(), count))
}

fn lease_json(lease: &Lease) -> Value {
    json!({
        "request": hex(lease.request),
        "user": lease.user.0.simple().to_string(),
        "key": lease.key.as_str(),
        "version": integer(lease.version),
        "model": lease.model,
        "day": lease.day.to_string(),
        "reserved": integer(lease.reserved),
        "admitted_at": lease.admitted_at.as_millisecond(),
    })
}

fn charge_json(charge: &Charge) -> Value {
    json!({
        "request": hex(charge.request),
        "user": charge.user.0.simple().to_string(),
        "key": charge.key.as_str(),
        "model": charge.model,
        "upstream": charge.upstream,
        "day": charge.day.to_string(),
        "admitted_at": charge.admitted_at.as_millisecond(),
        "prompt": integer(charge.tokens.prompt),
        "cached": integer(charge.tokens.cached),
        "completion": integer(charge.tokens.completion),
        "reasoning": integer(charge.tokens.reasoning),
        "cost": charge.cost_micro_dollars,
        "status": charge.status.as_str(),
        "source": charge.source.as_str(),
        "counted": i32::from(charge.counted),
        "first_token_ms": charge.first_token_ms,
        "total_ms": charge.total_ms,
    })
}

fn hex(request: RequestId) -> String {
    request.0.simple().to_string()
}
