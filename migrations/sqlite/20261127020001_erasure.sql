-- Deleted users whose ledger rows may still have request ids that the callers chose. All rows are visited twice: at
-- once, and again a week later for calls that were still being settled. Then the row here is deleted.
create table erasure (
    user_id blob not null primary key references users (id),
    erased_at integer not null,
    -- When the next visit is due.
    due_at integer not null,
    -- Rows admitted up to this time were visited.
    visited_until integer not null default -1
) strict, without rowid;
