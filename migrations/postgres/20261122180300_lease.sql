-- Calls that run. A row here when a process starts belongs to a call that a dead process left.
-- As many rows as calls in flight, so no index but the key; no foreign key, since what was
-- admitted must be chargeable whatever became of the user.
create table lease (
    request uuid not null primary key,
    user_id uuid not null,
    key_id text collate "C" not null,
    version bigint not null,
    model text collate "C" not null,
    day date not null,
    -- Tokens held in all: the charge should the process die.
    reserved bigint not null check (reserved >= 0),
    admitted_at bigint not null
)
-- Rows live for seconds, and an extension rewrites one in its page; nearly every row is dead.
with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
