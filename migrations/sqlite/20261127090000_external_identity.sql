-- Identities of users at a sign-in provider (OpenID Connect): a user may have one at each issuer.
create table external_identity (
    id blob not null primary key check (length(id) = 16),
    user_id blob not null references users (id),
    -- The provider, and its name for the person: together they never belong to another person.
    issuer text not null,
    subject text not null,
    -- The e-mail address that the provider reported when the identity was linked, for its owner to recognise it.
    email text,
    linked_at integer not null,
    -- The last sign-in; null = none yet.
    used_at integer
) strict, without rowid;

-- An identity belongs to one user.
create unique index external_identity_by_subject on external_identity (issuer, subject);

create unique index external_identity_by_user on external_identity (user_id, issuer);
