-- When the user proved to receive mail at the address; null = not yet, or not since the address changed.
alter table users add column email_verified_at bigint;
