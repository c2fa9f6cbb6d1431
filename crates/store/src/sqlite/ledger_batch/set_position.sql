-- $1 the log that the batch comes from; $2 the position in it after the batch. Named parameters: sqlx counts numbered
-- ones through all statements of a text, and loses gaps.
insert into journal_mark (log, position, is_latest)
values ($1, $2, 1)
on conflict (log) do update set
    position = max(position, excluded.position),
    is_latest = 1;

update journal_mark set is_latest = 0
where is_latest and log <> $1;
