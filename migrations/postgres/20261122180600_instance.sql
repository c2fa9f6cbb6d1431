-- The fence: who may write the journal. Postgres alone needs it, since a file has its folder's lock.
--
-- A process that claims the store takes the next epoch, and gives it with everything it writes. A
-- process that lost its connection, and its lock with it, is told here that another has followed.
create table instance (
    the_only boolean not null primary key default true check (the_only),
    epoch bigint not null
);

insert into instance (epoch) values (0);

-- Refuses any epoch but the current one; null = a writer that shares the store. Holds the row until
-- the end of the transaction, so that a repeated batch waits for its first try, should that still
-- run on a connection that was given up, and so that nobody can claim the store half way through.
create function hold_fence(claimed bigint) returns void
language plpgsql as $$
begin
    if claimed is null then
        return;
    end if;
    perform from instance where epoch = claimed for no key update;
    if not found then
        raise exception 'another knockx has taken over this database' using errcode = 'KX001';
    end if;
end;
$$;
