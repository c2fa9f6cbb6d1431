-- Log-ins. A row ends with its session: as many as people are logged in, a hundred a user at most.
create table session (
    id uuid not null primary key,
    user_id uuid not null references users (id),
    -- SHA-256 of the one refresh token that is good now. Any other ends the session.
    digest bytea not null check (length(digest) = 32),
    created_at bigint not null,
    expires_at bigint not null
);

-- A new password or a suspension ends all sessions of a user; a new session ends the oldest.
create index session_by_user on session (user_id, created_at);
