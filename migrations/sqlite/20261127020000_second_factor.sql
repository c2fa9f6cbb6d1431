-- The second factor of a user: the secret of an authenticator app.
create table second_factor (
    user_id blob not null primary key references users (id),
    -- Encrypted for this user with a key derived from SECRET_KEY: nonce, secret, tag.
    sealed_secret blob not null check (length(sealed_secret) = 48),
    created_at integer not null,
    -- null = being set up: log-ins ask for no code yet.
    enabled_at integer,
    -- The time step of the last accepted code; codes up to it are refused.
    last_step integer not null default 0
) strict, without rowid;

-- Codes for when the app is lost, each good once: the keyed hash alone. Used ones stay until they are replaced.
create table recovery_code (
    user_id blob not null references users (id),
    digest blob not null check (length(digest) = 32),
    used_at integer,
    primary key (user_id, digest)
) strict, without rowid;
