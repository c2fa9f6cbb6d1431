-- The caller's own `x-request-id`, at most 128 visible ASCII characters. Older rows have none.
alter table usage_event add column client_request_id text;

-- The journal as before, but that charges carry that id. The function without it stays for gateways of the
-- version before, which may run beside newer ones during an update.
create function journal(
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

    if cardinality(doubted) > 0 then
        delete from lease where lease.request = any (doubted);
    end if;

    if cardinality(lease_request) > 0 then
        -- Leases of active users whose version is still the one relied on.
        insert into lease (
            request, user_id, key_id, version, model, day, reserved, admitted_at
        )
        select
            entry.request, users.id, entry.key_id, users.version,
            entry.model, entry.day::date, entry.reserved, entry.admitted_at
        from unnest(
            lease_request, lease_user, lease_key, lease_version,
            lease_model, lease_day, lease_reserved, lease_admitted_at
        ) as entry (request, user_id, key_id, version, model, day, reserved, admitted_at)
        join users on users.id = entry.user_id
        where users.version = entry.version
          and users.status = 'active'
          -- A lease that was settled already must not come back when its opening is repeated.
          and not exists (
              select from usage_event
              where usage_event.request = entry.request and usage_event.day = entry.day::date
          )
        on conflict (request) do nothing;
    end if;

    if cardinality(raised_request) > 0 then
        -- A repeated or late extension never lowers what a call holds.
        update lease set reserved = raised.reserved
        from (
            select entry.request, max(entry.reserved) as reserved
            from unnest(raised_request, raised_to) as entry (request, reserved)
            group by entry.request
        ) as raised
        where lease.request = raised.request
          and lease.reserved < raised.reserved;
    end if;

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

        delete from lease where lease.request = any (charge_request);
    end if;

    if cardinality(lease_request) > 0 then
        -- Those that an earlier try had written are admitted, whether they still run or not.
        return query
        select asked.request
        from unnest(lease_request, lease_day) as asked (request, day)
        where not exists (select from lease where lease.request = asked.request)
          and not exists (
              select from usage_event
              where usage_event.request = asked.request and usage_event.day = asked.day::date
          );
    end if;
end;
$$;
