delete from safe_migrations where version = '20261126000100';
drop function pattern_pieces;
