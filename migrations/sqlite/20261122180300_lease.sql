-- Calls that run. A row here when a process starts belongs to a call that a dead process left.
-- As many rows as calls in flight, so no index but the key; no foreign key, since what was
-- admitted must be chargeable whatever became of the user.
create table lease (
    request blob not null primary key check (length(request) = 16),
    user_id blob not null,
    key_id text not null,
    version integer not null,
    model text not null,
    day text not null,
    -- Tokens held in all: the charge should the process die.
    reserved integer not null check (reserved >= 0),
    admitted_at integer not null
) strict, without rowid;
