-- A plan may count cached prompt tokens as a fraction. New are the fraction of a plan, in thousandths; that of the call
-- behind a stored response, for the correction of its charge; and the cached tokens of a call that its plan does not
-- count: in the ledger, and summed in the rollup that counters start from. Constant defaults rewrite no table.
alter table plan add column cached_token_thousandths bigint not null default 1000;
alter table stored_response add column cached_token_thousandths bigint not null default 1000;
alter table usage_event add column uncounted bigint not null default 0;
alter table usage_daily add column uncounted bigint not null default 0;

-- Fires once a statement, with the rows really inserted and no others, so a repeated charge cannot
-- be added twice and no writer of the ledger can forget the rollup. In the order of the key, so
-- that writers who meet wait for each other and do not deadlock.
create or replace function usage_event_into_daily() returns trigger
language plpgsql as $$
begin
    insert into usage_daily as so_far (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer, uncounted
    )
    select
        day, user_id, key_id, model,
        count(*) filter (where counted), sum(prompt), sum(cached),
        sum(completion), sum(reasoning), sum(cost_micro_dollars),
        count(*),
        count(*) filter (where status in ('failed', 'cut_by_upstream')),
        max(admitted_at),
        count(*) filter (where total_ms <= 50),
        count(*) filter (where total_ms between 51 and 100),
        count(*) filter (where total_ms between 101 and 250),
        count(*) filter (where total_ms between 251 and 500),
        count(*) filter (where total_ms between 501 and 1000),
        count(*) filter (where total_ms between 1001 and 2500),
        count(*) filter (where total_ms between 2501 and 5000),
        count(*) filter (where total_ms between 5001 and 10000),
        count(*) filter (where total_ms between 10001 and 30000),
        count(*) filter (where total_ms between 30001 and 60000),
        count(*) filter (where total_ms between 60001 and 300000),
        count(*) filter (where total_ms > 300000),
        sum(uncounted)
    from charged
    group by day, user_id, key_id, model
    order by day, user_id, key_id, model
    on conflict (day, user_id, key_id, model) do update set
        requests = so_far.requests + excluded.requests,
        prompt = so_far.prompt + excluded.prompt,
        cached = so_far.cached + excluded.cached,
        completion = so_far.completion + excluded.completion,
        reasoning = so_far.reasoning + excluded.reasoning,
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars,
        calls = so_far.calls + excluded.calls,
        failed = so_far.failed + excluded.failed,
        last_at = greatest(so_far.last_at, excluded.last_at),
        took_50 = so_far.took_50 + excluded.took_50,
        took_100 = so_far.took_100 + excluded.took_100,
        took_250 = so_far.took_250 + excluded.took_250,
        took_500 = so_far.took_500 + excluded.took_500,
        took_1000 = so_far.took_1000 + excluded.took_1000,
        took_2500 = so_far.took_2500 + excluded.took_2500,
        took_5000 = so_far.took_5000 + excluded.took_5000,
        took_10000 = so_far.took_10000 + excluded.took_10000,
        took_30000 = so_far.took_30000 + excluded.took_30000,
        took_60000 = so_far.took_60000 + excluded.took_60000,
        took_300000 = so_far.took_300000 + excluded.took_300000,
        took_longer = so_far.took_longer + excluded.took_longer,
        uncounted = so_far.uncounted + excluded.uncounted;
    return null;
end;
$$;

-- The same for an estimate whose real charge came late: the difference, in the same transaction.
-- Only `last_at` stays, which the two share. Another writer's rows may be wanted in the other order
-- by these two triggers; Postgres then refuses one batch as a deadlock, and its writer repeats it.
create or replace function usage_event_changes_daily() returns trigger
language plpgsql as $$
begin
    -- It is called for every insertion too, which may have changed nothing.
    if not exists (select from charged) then
        return null;
    end if;
    insert into usage_daily as so_far (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer, uncounted
    )
    select
        day, user_id, key_id, model,
        sum(sign * counted::integer), sum(sign * prompt), sum(sign * cached),
        sum(sign * completion), sum(sign * reasoning), sum(sign * cost_micro_dollars),
        sum(sign),
        coalesce(sum(sign) filter (where status in ('failed', 'cut_by_upstream')), 0),
        max(admitted_at),
        coalesce(sum(sign) filter (where total_ms <= 50), 0),
        coalesce(sum(sign) filter (where total_ms between 51 and 100), 0),
        coalesce(sum(sign) filter (where total_ms between 101 and 250), 0),
        coalesce(sum(sign) filter (where total_ms between 251 and 500), 0),
        coalesce(sum(sign) filter (where total_ms between 501 and 1000), 0),
        coalesce(sum(sign) filter (where total_ms between 1001 and 2500), 0),
        coalesce(sum(sign) filter (where total_ms between 2501 and 5000), 0),
        coalesce(sum(sign) filter (where total_ms between 5001 and 10000), 0),
        coalesce(sum(sign) filter (where total_ms between 10001 and 30000), 0),
        coalesce(sum(sign) filter (where total_ms between 30001 and 60000), 0),
        coalesce(sum(sign) filter (where total_ms between 60001 and 300000), 0),
        coalesce(sum(sign) filter (where total_ms > 300000), 0),
        sum(sign * uncounted)
    from (
        select 1 as sign, * from charged
        union all
        select -1 as sign, * from replaced
    ) as difference
    group by day, user_id, key_id, model
    order by day, user_id, key_id, model
    on conflict (day, user_id, key_id, model) do update set
        requests = so_far.requests + excluded.requests,
        prompt = so_far.prompt + excluded.prompt,
        cached = so_far.cached + excluded.cached,
        completion = so_far.completion + excluded.completion,
        reasoning = so_far.reasoning + excluded.reasoning,
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars,
        calls = so_far.calls + excluded.calls,
        failed = so_far.failed + excluded.failed,
        last_at = greatest(so_far.last_at, excluded.last_at),
        took_50 = so_far.took_50 + excluded.took_50,
        took_100 = so_far.took_100 + excluded.took_100,
        took_250 = so_far.took_250 + excluded.took_250,
        took_500 = so_far.took_500 + excluded.took_500,
        took_1000 = so_far.took_1000 + excluded.took_1000,
        took_2500 = so_far.took_2500 + excluded.took_2500,
        took_5000 = so_far.took_5000 + excluded.took_5000,
        took_10000 = so_far.took_10000 + excluded.took_10000,
        took_30000 = so_far.took_30000 + excluded.took_30000,
        took_60000 = so_far.took_60000 + excluded.took_60000,
        took_300000 = so_far.took_300000 + excluded.took_300000,
        took_longer = so_far.took_longer + excluded.took_longer,
        uncounted = so_far.uncounted + excluded.uncounted;
    return null;
end;
$$;

-- As before, with the tokens that are not counted: charges and adjustments, and how far they bring the ledger in a
-- journal (null = they come from none).
create function project(
    claimed bigint,
    marked_log uuid, marked_position bigint,
    charge_request uuid[], charge_user uuid[], charge_key text[], charge_model text[],
    charge_upstream text[], charge_day text[], charge_admitted_at bigint[],
    charge_prompt bigint[], charge_cached bigint[], charge_completion bigint[],
    charge_reasoning bigint[], charge_cost bigint[], charge_status text[], charge_source text[],
    charge_counted boolean[], charge_first_token_ms bigint[], charge_total_ms bigint[],
    charge_client_request_id text[], charge_uncounted bigint[],
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
            status, source, counted, first_token_ms, total_ms, client_request_id, uncounted
        )
        select distinct on (entry.request, entry.day::date)
            entry.request, entry.user_id, entry.key_id, entry.model, entry.upstream,
            entry.day::date, entry.admitted_at,
            entry.prompt, entry.cached, entry.completion, entry.reasoning, entry.cost,
            entry.status, entry.source, entry.counted, entry.first_token_ms, entry.total_ms,
            entry.client_request_id, entry.uncounted
        from unnest(
            charge_request, charge_user, charge_key, charge_model, charge_upstream,
            charge_day, charge_admitted_at,
            charge_prompt, charge_cached, charge_completion, charge_reasoning, charge_cost,
            charge_status, charge_source, charge_counted, charge_first_token_ms, charge_total_ms,
            charge_client_request_id, charge_uncounted
        ) with ordinality as entry (
            request, user_id, key_id, model, upstream, day, admitted_at,
            prompt, cached, completion, reasoning, cost,
            status, source, counted, first_token_ms, total_ms, client_request_id, uncounted, place
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
            uncounted = excluded.uncounted,
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

-- For gateways of the version before, which may run beside newer ones during an update: they count all tokens.
create or replace function project(
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
as $$
begin
    perform project(
        claimed, marked_log, marked_position,
        charge_request, charge_user, charge_key, charge_model,
        charge_upstream, charge_day, charge_admitted_at,
        charge_prompt, charge_cached, charge_completion, charge_reasoning, charge_cost,
        charge_status, charge_source, charge_counted, charge_first_token_ms, charge_total_ms,
        charge_client_request_id, array_fill(0::bigint, array[cardinality(charge_request)]),
        adjust_reset, adjust_user, adjust_key, adjust_day,
        adjust_tokens, adjust_requests, adjust_at, adjust_by
    );
end;
$$;
