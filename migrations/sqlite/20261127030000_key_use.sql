-- When each key was last used, for lists of keys: until now that was the largest of all the days of a user. A
-- row changes at most once a minute, however many calls its key makes.
create table key_use (
    user_id blob not null,
    key_id text not null,
    -- Admission of a call, in milliseconds since 1970: at most a minute before that of the last one.
    last_at integer not null,
    primary key (user_id, key_id)
) strict, without rowid;

insert into key_use (user_id, key_id, last_at)
select user_id, key_id, max(last_at)
from usage_daily
where calls > 0
group by user_id, key_id;

-- Fires for rows really inserted, as those of the rollups do, so no writer of the ledger can forget it.
create trigger usage_event_into_key_use after insert on usage_event
when not exists (
    select 1
    from key_use
    where user_id = new.user_id and key_id = new.key_id and last_at > new.admitted_at - 60000
)
begin
    insert into key_use (user_id, key_id, last_at)
    values (new.user_id, new.key_id, new.admitted_at)
    on conflict (user_id, key_id) do update set last_at = excluded.last_at;
end;

create trigger api_key_out_of_key_use after delete on api_key
begin
    delete from key_use where user_id = old.user_id and key_id = old.id;
end;
