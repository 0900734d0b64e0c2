-- A release deletes the row of unique_values and inserts one here in the same transaction. A claim waits for that in the
-- index of unique_values, and looks here after it has the value there.
create table reserved_values (
    kind text collate "C" not null,
    value text collate "C" not null,
    user_id bigint not null,
    proved boolean not null,
    reserved_until timestamptz not null,
    constraint reserved_values_pkey primary key (kind, value)
);
create index reserved_values_user_id on reserved_values (user_id);
create index reserved_values_reserved_until on reserved_values (reserved_until);
comment on table reserved_values is 'Values that a user released and that only this user may take again for a time';
comment on column reserved_values.kind is 'username, username_skeleton, email or phone';
comment on column reserved_values.value is 'The folded value, as unique_values had it';
comment on column reserved_values.user_id is 'The former holder';
comment on column reserved_values.proved is
    'Whether the former holder had verified the address; one that was not gives way to whoever proves it';
comment on column reserved_values.reserved_until is 'From when anyone may take it';

insert into safe_migrations (version, oldest_binary) values ('20261201000303', '20261124000600');
