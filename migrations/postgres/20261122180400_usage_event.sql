-- The ledger: one row for each settled call. A row never changes, except that the real charge of a
-- call once taken for dead replaces its estimate (status `abandoned`). A request keeps its day of
-- admission, so the two are its identity, and repeating a write changes nothing. A partition a day:
-- what is old goes by dropping a table. The request comes first in the key, because a day is the
-- same for all of a partition and a request can then be found without knowing its day.
create table usage_event (
    request uuid not null,
    user_id uuid not null,
    key_id text collate "C" not null,
    model text collate "C" not null,
    -- Empty when no upstream was reached.
    upstream text not null,
    -- The day of admission in the plan's time zone.
    day date not null,
    admitted_at bigint not null,
    prompt bigint not null check (prompt >= 0),
    -- The part of `prompt` that came from the upstream's cache.
    cached bigint not null check (cached >= 0),
    -- Visible output alone; `reasoning` is counted apart.
    completion bigint not null check (completion >= 0),
    reasoning bigint not null check (reasoning >= 0),
    cost_micro_dollars bigint not null,
    status text not null,
    source text not null,
    -- True = counts against requests per day.
    counted boolean not null,
    first_token_ms bigint,
    total_ms bigint not null,
    primary key (request, day)
) partition by range (day);

-- Checks and exports ask for a day, and within it for a user. Dashboards read the rollup instead.
create index usage_event_by_user on usage_event (user_id, day);

-- Takes what no partition was made for, so that no charge is ever refused for want of one.
create table usage_event_default partition of usage_event default;

-- Makes the partitions of `days` days from `from_day` on; those that are there stay as they are.
-- Attaching, unlike creating in place, does not stop those who write to the other partitions.
create function prepare_usage_event(from_day date, days integer) returns void
language plpgsql as $$
declare
    a_day date;
    its_name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('knockx partitions', 0));
    for a_day in select from_day + n from generate_series(0, days - 1) as n loop
        its_name := 'usage_event_' || to_char(a_day, 'YYYYMMDD');
        continue when to_regclass(its_name) is not null;
        execute format('create table %I (like usage_event including all)', its_name);
        -- Rows of that day that came before their partition move into it, and nobody adds more.
        -- Named directly, a partition does not fire its parent's triggers: the rollup has the rows.
        lock table usage_event_default in access exclusive mode;
        execute format(
            'with moved as (delete from usage_event_default where day = %L returning *)
             insert into %I select * from moved',
            a_day, its_name
        );
        execute format(
            'alter table usage_event attach partition %I for values from (%L) to (%L)',
            its_name, a_day, a_day + 1
        );
    end loop;
end;
$$;
