-- Admins look a key up by its last four characters, which is what its owner can tell them.
create index api_key_by_last_four on api_key (last_four);
