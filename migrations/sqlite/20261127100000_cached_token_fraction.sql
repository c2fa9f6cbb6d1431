-- A plan may count cached prompt tokens as a fraction. New are the fraction of a plan, in thousandths; that of the call
-- behind a stored response, for the correction of its charge; and the cached tokens of a call that its plan does not
-- count: in the ledger, and summed in the rollup that counters start from. Constant defaults rewrite no table.
alter table plan add column cached_token_thousandths integer not null default 1000;
alter table stored_response add column cached_token_thousandths integer not null default 1000;
alter table usage_event add column uncounted integer not null default 0;
alter table usage_daily add column uncounted integer not null default 0;

drop trigger usage_event_into_daily;
drop trigger usage_event_changes_daily;

-- Fires for rows really inserted and for no other, so a repeated charge cannot be added twice and
-- no writer of the ledger can forget the rollup.
create trigger usage_event_into_daily after insert on usage_event
begin
    insert into usage_daily (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer, uncounted
    )
    values (
        new.day, new.user_id, new.key_id, new.model, new.counted, new.prompt, new.cached,
        new.completion, new.reasoning, new.cost_micro_dollars,
        1, new.status in ('failed', 'cut_by_upstream'), new.admitted_at,
        new.total_ms <= 50,
        new.total_ms between 51 and 100,
        new.total_ms between 101 and 250,
        new.total_ms between 251 and 500,
        new.total_ms between 501 and 1000,
        new.total_ms between 1001 and 2500,
        new.total_ms between 2501 and 5000,
        new.total_ms between 5001 and 10000,
        new.total_ms between 10001 and 30000,
        new.total_ms between 30001 and 60000,
        new.total_ms between 60001 and 300000,
        new.total_ms > 300000,
        new.uncounted
    )
    on conflict (day, user_id, key_id, model) do update set
        requests = requests + excluded.requests,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        last_at = max(last_at, excluded.last_at),
        took_50 = took_50 + excluded.took_50,
        took_100 = took_100 + excluded.took_100,
        took_250 = took_250 + excluded.took_250,
        took_500 = took_500 + excluded.took_500,
        took_1000 = took_1000 + excluded.took_1000,
        took_2500 = took_2500 + excluded.took_2500,
        took_5000 = took_5000 + excluded.took_5000,
        took_10000 = took_10000 + excluded.took_10000,
        took_30000 = took_30000 + excluded.took_30000,
        took_60000 = took_60000 + excluded.took_60000,
        took_300000 = took_300000 + excluded.took_300000,
        took_longer = took_longer + excluded.took_longer,
        uncounted = uncounted + excluded.uncounted;
end;

-- The same for an estimate whose real charge came late: the estimate out, the charge in. Only
-- `last_at` stays, which the two share.
create trigger usage_event_changes_daily after update on usage_event
begin
    update usage_daily set
        requests = requests - old.counted,
        prompt = prompt - old.prompt,
        cached = cached - old.cached,
        completion = completion - old.completion,
        reasoning = reasoning - old.reasoning,
        cost_micro_dollars = cost_micro_dollars - old.cost_micro_dollars,
        calls = calls - 1,
        failed = failed - (old.status in ('failed', 'cut_by_upstream')),
        took_50 = took_50 - (old.total_ms <= 50),
        took_100 = took_100 - (old.total_ms between 51 and 100),
        took_250 = took_250 - (old.total_ms between 101 and 250),
        took_500 = took_500 - (old.total_ms between 251 and 500),
        took_1000 = took_1000 - (old.total_ms between 501 and 1000),
        took_2500 = took_2500 - (old.total_ms between 1001 and 2500),
        took_5000 = took_5000 - (old.total_ms between 2501 and 5000),
        took_10000 = took_10000 - (old.total_ms between 5001 and 10000),
        took_30000 = took_30000 - (old.total_ms between 10001 and 30000),
        took_60000 = took_60000 - (old.total_ms between 30001 and 60000),
        took_300000 = took_300000 - (old.total_ms between 60001 and 300000),
        took_longer = took_longer - (old.total_ms > 300000),
        uncounted = uncounted - old.uncounted
    where day = old.day and user_id = old.user_id and key_id = old.key_id and model = old.model;
    insert into usage_daily (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer, uncounted
    )
    values (
        new.day, new.user_id, new.key_id, new.model, new.counted, new.prompt, new.cached,
        new.completion, new.reasoning, new.cost_micro_dollars,
        1, new.status in ('failed', 'cut_by_upstream'), new.admitted_at,
        new.total_ms <= 50,
        new.total_ms between 51 and 100,
        new.total_ms between 101 and 250,
        new.total_ms between 251 and 500,
        new.total_ms between 501 and 1000,
        new.total_ms between 1001 and 2500,
        new.total_ms between 2501 and 5000,
        new.total_ms between 5001 and 10000,
        new.total_ms between 10001 and 30000,
        new.total_ms between 30001 and 60000,
        new.total_ms between 60001 and 300000,
        new.total_ms > 300000,
        new.uncounted
    )
    on conflict (day, user_id, key_id, model) do update set
        requests = requests + excluded.requests,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        last_at = max(last_at, excluded.last_at),
        took_50 = took_50 + excluded.took_50,
        took_100 = took_100 + excluded.took_100,
        took_250 = took_250 + excluded.took_250,
        took_500 = took_500 + excluded.took_500,
        took_1000 = took_1000 + excluded.took_1000,
        took_2500 = took_2500 + excluded.took_2500,
        took_5000 = took_5000 + excluded.took_5000,
        took_10000 = took_10000 + excluded.took_10000,
        took_30000 = took_30000 + excluded.took_30000,
        took_60000 = took_60000 + excluded.took_60000,
        took_300000 = took_300000 + excluded.took_300000,
        took_longer = took_longer + excluded.took_longer,
        uncounted = uncounted + excluded.uncounted;
end;
