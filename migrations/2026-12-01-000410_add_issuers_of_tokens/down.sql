delete from safe_migrations where version in ('20261201000410', '20261201000420');
alter table tokens drop column parent_hash, drop column issued_by;
