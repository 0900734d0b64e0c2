alter table outbox add column changes integer not null default 1;
comment on column outbox.changes is 'How many changes the message tells of; more than one in a summary';

create table text_messages (
    day timestamptz primary key,
    queued bigint not null
);
comment on table text_messages is 'How many text messages were queued on each day, for the daily cap of the deployment';
comment on column text_messages.day is 'The beginning of the day in UTC';
comment on column text_messages.queued is 'Text messages that were queued on it';

insert into safe_migrations (version, oldest_binary) values ('20261201000304', '20261124000600');
