alter table field_definitions drop column version;
delete from safe_migrations where version = '20261201000200';
