-- Log-ins. A row ends with its session: as many as people are logged in, a hundred a user at most.
create table session (
    id blob not null primary key check (length(id) = 16),
    user_id blob not null references users (id),
    -- SHA-256 of the one refresh token that is good now. Any other ends the session.
    digest blob not null check (length(digest) = 32),
    created_at integer not null,
    expires_at integer not null
) strict, without rowid;

-- A new password or a suspension ends all sessions of a user; a new session ends the oldest.
create index session_by_user on session (user_id, created_at);
