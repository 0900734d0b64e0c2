delete from safe_migrations where version = '20261201000400';
drop table service_revocations;
alter table accounts drop column tokens_revoked_before;
