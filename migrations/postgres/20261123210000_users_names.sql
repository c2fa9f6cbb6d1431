-- Three letters or more are found wherever they stand in a name. The extension comes with Postgres, and
-- the owner of a database may add it; where that is not allowed, a search reads all names.
do $$
begin
    create extension if not exists pg_trgm;
    create index users_names on users
    using gin (email gin_trgm_ops, lower(username collate "C") gin_trgm_ops);
exception
    when insufficient_privilege or undefined_file or feature_not_supported then
        raise notice 'no pg_trgm: a search for users reads all names';
end
$$;
