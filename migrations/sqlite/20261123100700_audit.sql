-- The audit log: what was changed, by whom, and how it was before. Rows are only ever added, in the
-- transaction of the change. No foreign key: an entry outlives what it tells of.
create table audit (
    -- A UUIDv7: sorted by time.
    id blob not null primary key check (length(id) = 16),
    at integer not null,
    -- user:ID, operator or gateway.
    actor text not null,
    -- Such as user.change.
    action text not null,
    -- user:ID, key:ID, plan:ID, upgrade:ID or config.
    subject text not null,
    -- JSON objects; null = there was, or is, nothing.
    before text,
    after text,
    -- The x-request-id of the request it came with.
    request text
) strict, without rowid;

-- What was done to one thing, and what one person did, each the newest first.
create index audit_by_subject on audit (subject, id);
create index audit_by_actor on audit (actor, id);
