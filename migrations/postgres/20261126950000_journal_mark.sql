-- Leases lie in the journal of a gateway from here on. Those that an earlier version left open are charged
-- with all they held, in the transaction in which their table goes: both happen, or neither. A gateway of
-- that version that still runs settles them all the same: its charge takes the place of the estimate.
insert into usage_event (
    request, user_id, key_id, model, upstream, day, admitted_at,
    prompt, cached, completion, reasoning, cost_micro_dollars,
    status, source, counted, first_token_ms, total_ms
)
select
    request, user_id, key_id, model, '', day, admitted_at,
    0, 0, reserved, 0, 0,
    'abandoned', 'estimated', true, null, 0
from lease
on conflict (request, day) do nothing;

drop table lease;

-- How far the ledger has each journal; written in the transaction of the entries before that position.
create table journal_mark (
    log uuid not null primary key,
    position bigint not null,
    -- True for the journal that the ledger was last written from.
    is_latest boolean not null
);

-- The change (`users.change_seq`) up to which the running instance acts on all changes.
alter table instance add column confirmed bigint not null default 0;

-- Charges and adjustments, and how far they bring the ledger in a journal (null = they come from none).
create function project(
    claimed bigint,
    marked_log uuid, marked_position bigint,
    charge_request uuid[], charge_user uuid[], charge_key text[], charge_model text[],
    charge_upstream text[], charge_day text[], charge_admitted_at bigint[],
    charge_prompt bigint[], charge_cached bigint[], charge_completion bigint[],
    charge_reasoning bigint[], charge_cost bigint[], charge_status text[], charge_source text[],
    charge_counted boolean[], charge_first_token_ms bigint[], charge_total_ms bigint[],
    charge_client_request_id text[],
    adjust_reset uuid[], adjust_user uuid[], adjust_key text[], adjust_day text[],
    adjust_tokens bigint[], adjust_requests bigint[], adjust_at bigint[], adjust_by text[]
) returns void
language plpgsql
-- Plans are kept for the life of a connection: one made while the ledger is small must not read
-- all of it when it is large. The one table without an index to use (`instance`, one row) then looks
-- dear enough to compile code for, which takes many times as long as the batch.
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
begin
    perform hold_fence(claimed);

    if cardinality(charge_request) > 0 then
        -- Ledger rows that are not there yet, and those that were only an estimate so far: of a dead
        -- gateway's call, or counted here and now reported by the upstream. Triggers keep the rollup. One statement, so that a charge waits for another writer's estimate of the
        -- same request and then replaces it. In the order of requests, so that such writers do not
        -- deadlock; of several charges for one request the first that is least of an estimate.
        insert into usage_event as so_far (
            request, user_id, key_id, model, upstream, day, admitted_at,
            prompt, cached, completion, reasoning, cost_micro_dollars,
            status, source, counted, first_token_ms, total_ms, client_request_id
        )
        select distinct on (entry.request, entry.day::date)
            entry.request, entry.user_id, entry.key_id, entry.model, entry.upstream,
            entry.day::date, entry.admitted_at,
            entry.prompt, entry.cached, entry.completion, entry.reasoning, entry.cost,
            entry.status, entry.source, entry.counted, entry.first_token_ms, entry.total_ms,
            entry.client_request_id
        from unnest(
            charge_request, charge_user, charge_key, charge_model, charge_upstream,
            charge_day, charge_admitted_at,
            charge_prompt, charge_cached, charge_completion, charge_reasoning, charge_cost,
            charge_status, charge_source, charge_counted, charge_first_token_ms, charge_total_ms,
            charge_client_request_id
        ) with ordinality as entry (
            request, user_id, key_id, model, upstream, day, admitted_at,
            prompt, cached, completion, reasoning, cost,
            status, source, counted, first_token_ms, total_ms, client_request_id, place
        )
        order by
            entry.request, entry.day::date, entry.status = 'abandoned', entry.source = 'estimated', entry.place
        on conflict (request, day) do update set
            user_id = excluded.user_id,
            key_id = excluded.key_id,
            model = excluded.model,
            upstream = excluded.upstream,
            admitted_at = excluded.admitted_at,
            prompt = excluded.prompt,
            cached = excluded.cached,
            completion = excluded.completion,
            reasoning = excluded.reasoning,
            cost_micro_dollars = excluded.cost_micro_dollars,
            status = excluded.status,
            source = excluded.source,
            counted = excluded.counted,
            first_token_ms = excluded.first_token_ms,
            total_ms = excluded.total_ms,
            -- A charge made from a lease alone does not know it.
            client_request_id = coalesce(excluded.client_request_id, so_far.client_request_id)
        where (so_far.status = 'abandoned' and excluded.status <> 'abandoned')
           or (so_far.source = 'estimated' and excluded.source = 'reported');
    end if;

    if cardinality(adjust_reset) > 0 then
        insert into usage_adjustment (reset, user_id, key_id, day, tokens, requests, at, by)
        select entry.reset, entry.user_id, entry.key_id, entry.day::date,
            entry.tokens, entry.requests, entry.at, entry.by
        from unnest(
            adjust_reset, adjust_user, adjust_key, adjust_day,
            adjust_tokens, adjust_requests, adjust_at, adjust_by
        ) as entry (reset, user_id, key_id, day, tokens, requests, at, by)
        on conflict (reset, key_id) do nothing;
    end if;

    if marked_log is not null then
        insert into journal_mark as mark (log, position, is_latest)
        values (marked_log, marked_position, true)
        on conflict (log) do update set
            position = greatest(mark.position, excluded.position),
            is_latest = true;
        update journal_mark set is_latest = false where is_latest and log <> marked_log;
    end if;
end;
$$;

-- For gateways of earlier versions that share counters through Redis, and run beside newer ones during an
-- update: they write charges alone.
create or replace function journal(
    claimed bigint,
    -- Leases of earlier batches whose answer was lost: refused since, so they must not stay.
    doubted uuid[],
    lease_request uuid[], lease_user uuid[], lease_key text[], lease_version bigint[],
    lease_model text[], lease_day text[], lease_reserved bigint[], lease_admitted_at bigint[],
    raised_request uuid[], raised_to bigint[],
    charge_request uuid[], charge_user uuid[], charge_key text[], charge_model text[],
    charge_upstream text[], charge_day text[], charge_admitted_at bigint[],
    charge_prompt bigint[], charge_cached bigint[], charge_completion bigint[],
    charge_reasoning bigint[], charge_cost bigint[], charge_status text[], charge_source text[],
    charge_counted boolean[], charge_first_token_ms bigint[], charge_total_ms bigint[]
) returns setof uuid
language plpgsql
as $$
begin
    if cardinality(lease_request) > 0 then
        raise exception 'a newer version of knockx has taken over this database' using errcode = 'KX001';
    end if;
    perform project(
        claimed, null, null,
        charge_request, charge_user, charge_key, charge_model,
        charge_upstream, charge_day, charge_admitted_at,
        charge_prompt, charge_cached, charge_completion, charge_reasoning, charge_cost,
        charge_status, charge_source, charge_counted, charge_first_token_ms, charge_total_ms,
        array_fill(null::text, array[cardinality(charge_request)]),
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
    );
end;
$$;

create or replace function journal(
    claimed bigint,
    -- Leases of earlier batches whose answer was lost: refused since, so they must not stay.
    doubted uuid[],
    lease_request uuid[], lease_user uuid[], lease_key text[], lease_version bigint[],
    lease_model text[], lease_day text[], lease_reserved bigint[], lease_admitted_at bigint[],
    raised_request uuid[], raised_to bigint[],
    charge_request uuid[], charge_user uuid[], charge_key text[], charge_model text[],
    charge_upstream text[], charge_day text[], charge_admitted_at bigint[],
    charge_prompt bigint[], charge_cached bigint[], charge_completion bigint[],
    charge_reasoning bigint[], charge_cost bigint[], charge_status text[], charge_source text[],
    charge_counted boolean[], charge_first_token_ms bigint[], charge_total_ms bigint[],
    charge_client_request_id text[]
) returns setof uuid
language plpgsql
as $$
begin
    if cardinality(lease_request) > 0 then
        raise exception 'a newer version of knockx has taken over this database' using errcode = 'KX001';
    end if;
    perform project(
        claimed, null, null,
        charge_request, charge_user, charge_key, charge_model,
        charge_upstream, charge_day, charge_admitted_at,
        charge_prompt, charge_cached, charge_completion, charge_reasoning, charge_cost,
        charge_status, charge_source, charge_counted, charge_first_token_ms, charge_total_ms,
        charge_client_request_id,
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
    );
end;
$$;
