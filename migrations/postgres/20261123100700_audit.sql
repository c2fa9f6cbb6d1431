-- The audit log: what was changed, by whom, and how it was before. Rows are only ever added, in the
-- transaction of the change. No foreign key: an entry outlives what it tells of.
create table audit (
    -- A UUIDv7: sorted by time.
    id uuid not null primary key,
    at bigint not null,
    -- user:ID, operator or gateway.
    actor text collate "C" not null,
    -- Such as user.change.
    action text not null,
    -- user:ID, key:ID, plan:ID, upgrade:ID or config.
    subject text collate "C" not null,
    -- JSON objects; null = there was, or is, nothing.
    before text,
    after text,
    -- The x-request-id of the request it came with.
    request text
);

-- What was done to one thing, and what one person did, each the newest first.
create index audit_by_subject on audit (subject, id);
create index audit_by_actor on audit (actor, id);
