-- Admins are a handful among all users. Those who are none are not in it, so it costs them nothing.
create index users_not_user on users (role, id)
where role <> 'user';
