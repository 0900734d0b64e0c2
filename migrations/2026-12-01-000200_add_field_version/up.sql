-- An older binary changes a definition without counting: its etag then misses that change, and nothing else breaks.
alter table field_definitions add column version bigint not null default 1;
comment on column field_definitions.version is 'Counts the changes of the definition by callers; the etag is made of it';

insert into safe_migrations (version, oldest_binary) values ('20261201000200', '20261124000600');
