delete from safe_migrations where version = '20261201000101';
drop function change_groups;
