-- The gateway adds up the rows of a batch before it writes their sums: a row of a rollup is written once a batch
-- instead of once a call. `in_rollups` marks such rows, and the trigger leaves them alone. For those of any other writer, an older
-- gateway that still runs among them, the trigger adds them as before. A constant default rewrites no table.
-- Postgres adds up the rows of a batch already.
alter table usage_event add column in_rollups integer not null default 0;

drop trigger usage_event_into_daily;
drop trigger usage_event_into_quarter_hourly;
drop trigger usage_event_into_key_use;

-- Fires for rows really inserted and for no other, so a repeated charge cannot be added twice. One trigger for all
-- rollups: each one that has to look at a row costs time.
create trigger usage_event_into_rollups after insert on usage_event
when not new.in_rollups
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

    insert into usage_quarter_hourly (
        user_id, day, quarter, model, requests, calls, failed, prompt, cached, completion, reasoning,
        cost_micro_dollars
    )
    values (
        new.user_id, new.day, new.admitted_at / 900000, new.model,
        new.counted, 1, new.status in ('failed', 'cut_by_upstream'),
        new.prompt, new.cached, new.completion, new.reasoning, new.cost_micro_dollars
    )
    on conflict (user_id, day, quarter, model) do update set
        requests = requests + excluded.requests,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars;

    insert into key_use (user_id, key_id, last_at)
    values (new.user_id, new.key_id, new.admitted_at)
    on conflict (user_id, key_id) do update set last_at = excluded.last_at
    where last_at <= excluded.last_at - 60000;
end;
