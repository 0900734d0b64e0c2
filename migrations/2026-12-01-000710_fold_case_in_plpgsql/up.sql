-- As it was, in PL/pgSQL, so that Postgres does not make it a part of the statement that calls it: a distributed Postgres
-- writes such a statement anew for its nodes, and loses the collation. Indexes keep their values.
do $$
declare
    chosen text := (
        select quote_ident(collname) from pg_collation
        where collname in ('pg_c_utf8', 'C.utf8', 'C.UTF-8')
        order by collname = 'pg_c_utf8' desc limit 1
    );
begin
    execute 'create or replace function fold_case(given text) returns text '
        || 'language plpgsql immutable strict parallel safe as '
        || quote_literal('begin return lower(given collate ' || chosen || ') collate "C"; end');
end
$$;

insert into safe_migrations (version, oldest_binary) values ('20261201000710', '20261126000200');
