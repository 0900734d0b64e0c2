comment on column unique_values.kind is 'username, email, phone, openid, unionid, connection, or field:<field_id>';
alter table accounts drop column skeleton_of;
delete from unique_values where kind = 'username_skeleton';

delete from safe_migrations where version = '20261201000305';
delete from safe_migrations where version = '20261201000306';
