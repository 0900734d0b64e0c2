delete from safe_migrations where version = '20261201000420';
drop index concurrently tokens_issued_by;
