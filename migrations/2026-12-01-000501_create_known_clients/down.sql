delete from safe_migrations where version = '20261201000501';
drop table known_clients;
