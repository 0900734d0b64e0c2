delete from safe_migrations where version = '20261201000410';
alter table tokens drop column parent_hash, drop column issued_by;
