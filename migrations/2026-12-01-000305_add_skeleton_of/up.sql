alter table accounts add column skeleton_of text collate "C";
comment on column accounts.skeleton_of is
    'The username_key whose look-alikes unique_values holds; differs from username_key until housekeeping has caught up';
comment on column unique_values.kind is
    'username, username_skeleton, email, phone, openid, unionid, connection, or field:<field_id>';

-- The second is the index of the next folder, which is made outside of a transaction and so by one statement alone.

insert into safe_migrations (version, oldest_binary) values ('20261201000305', '20261124000600');
insert into safe_migrations (version, oldest_binary) values ('20261201000306', '20261124000600');
