-- The first days that were kept when older ones were taken out of the ledger: the last one says from which
-- day on ledger and rollups can be compared.
create table ledger_prune (
    first_day date not null primary key,
    at bigint not null
);
