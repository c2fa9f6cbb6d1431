-- A username belongs to one user, whatever its case. Until now nothing compared them: of those that
-- share one, the oldest keeps it.
update users set username = null
where id in (
    select id
    from (
        select
            id,
            row_number() over (
                partition by lower(username) order by created_at, id
            ) as place
        from users
        where username is not null
    ) as named
    where place > 1
);

create unique index users_by_username on users (lower(username));
