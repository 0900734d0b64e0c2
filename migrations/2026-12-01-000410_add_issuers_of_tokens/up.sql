alter table tokens add column issued_by text collate "C", add column parent_hash bytea;
comment on column tokens.issued_by is 'Who issued it: services/<name>, users/<user_id> or operator; null before this was recorded';
comment on column tokens.parent_hash is 'SHA-256 of the token that issued it, with which it ends; null where none did';

-- The index that follows is made by one statement outside of a transaction, which has no room for its own row.
insert into safe_migrations (version, oldest_binary)
values ('20261201000410', '20261124000600'), ('20261201000420', '20261124000600');
