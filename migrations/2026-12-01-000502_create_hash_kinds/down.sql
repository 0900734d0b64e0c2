delete from safe_migrations where version = '20261201000502';
drop table hash_kinds;
