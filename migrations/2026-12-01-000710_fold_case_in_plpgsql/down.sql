delete from safe_migrations where version = '20261201000710';

do $$
declare
    chosen text := (
        select quote_ident(collname) from pg_collation
        where collname in ('pg_c_utf8', 'C.utf8', 'C.UTF-8')
        order by collname = 'pg_c_utf8' desc limit 1
    );
begin
    execute 'create or replace function fold_case(given text) returns text language sql immutable strict parallel safe as '
        || quote_literal('select lower(given collate ' || chosen || ') collate "C"');
end
$$;
