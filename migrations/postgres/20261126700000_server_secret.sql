-- Which SECRET_KEY the hashes of keys and refresh tokens were made with: its fingerprint, which does
-- not lead back to it. No row = a version that recorded none.
create table server_secret (
    the_only boolean not null primary key default true check (the_only),
    fingerprint bytea not null check (length(fingerprint) = 16),
    -- When a gateway first used it, in milliseconds since 1970.
    since bigint not null
);
