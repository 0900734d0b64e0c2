drop table text_messages;
alter table outbox drop column changes;

delete from safe_migrations where version = '20261201000304';
