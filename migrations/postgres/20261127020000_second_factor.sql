-- The second factor of a user: the secret of an authenticator app.
create table second_factor (
    user_id uuid not null primary key references users (id),
    -- Encrypted for this user with a key derived from SECRET_KEY: nonce, secret, tag.
    sealed_secret bytea not null check (length(sealed_secret) = 48),
    created_at bigint not null,
    -- null = being set up: log-ins ask for no code yet.
    enabled_at bigint,
    -- The time step of the last accepted code; codes up to it are refused.
    last_step bigint not null default 0
);

-- Codes for when the app is lost, each good once: the keyed hash alone. Used ones stay until they are replaced.
create table recovery_code (
    user_id uuid not null references users (id),
    digest bytea not null check (length(digest) = 32),
    used_at bigint,
    primary key (user_id, digest)
);
