drop table reserved_values;

delete from safe_migrations where version = '20261201000303';
