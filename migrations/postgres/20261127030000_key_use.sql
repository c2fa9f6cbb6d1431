-- When each key was last used, for lists of keys: until now that was the largest of all the days of a user. A
-- row changes at most once a minute, however many calls its key makes.
create table key_use (
    user_id uuid not null,
    key_id text collate "C" not null,
    -- Admission of a call, in milliseconds since 1970: at most a minute before that of the last one.
    last_at bigint not null,
    primary key (user_id, key_id)
) with (fillfactor = 80);

insert into key_use (user_id, key_id, last_at)
select user_id, key_id, max(last_at)
from usage_daily
where calls > 0
group by user_id, key_id;

-- Fires with the rows really inserted, as those of the rollups do, so no writer of the ledger can forget it. What
-- is younger than a minute is left out before the insertion, which would lock its row. In the order of the key,
-- so that writers who meet wait for each other and do not deadlock.
create function usage_event_into_key_use() returns trigger
language plpgsql as $$
begin
    insert into key_use as so_far (user_id, key_id, last_at)
    select used.user_id, used.key_id, used.last_at
    from (
        select user_id, key_id, max(admitted_at) as last_at
        from charged
        group by user_id, key_id
    ) as used
    where not exists (
        select
        from key_use
        where key_use.user_id = used.user_id
          and key_use.key_id = used.key_id
          and key_use.last_at > used.last_at - 60000
    )
    order by used.user_id, used.key_id
    on conflict (user_id, key_id) do update set last_at = excluded.last_at
    where so_far.last_at <= excluded.last_at - 60000;
    return null;
end;
$$;

create trigger usage_event_into_key_use after insert on usage_event
referencing new table as charged
for each statement execute function usage_event_into_key_use();

create function api_key_out_of_key_use() returns trigger
language plpgsql as $$
begin
    delete from key_use where user_id = old.user_id and key_id = old.id;
    return null;
end;
$$;

create trigger api_key_out_of_key_use after delete on api_key
for each row execute function api_key_out_of_key_use();
