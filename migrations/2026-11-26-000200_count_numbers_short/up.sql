-- A number counts as its shortest form has bytes: the long form of 1e300, which numeric has, is nobody's.
create or replace function compact_size(given jsonb) returns bigint language plpgsql immutable strict parallel safe as $$
declare
    total bigint := 2;
    entries bigint := 0;
    name text;
    item jsonb;
begin
    case jsonb_typeof(given)
        when 'object' then
            for name, item in select * from jsonb_each(given) loop
                total := total + octet_length(to_jsonb(name)::text) + 1 + compact_size(item);
                entries := entries + 1;
            end loop;
        when 'array' then
            for item in select * from jsonb_array_elements(given) loop
                total := total + compact_size(item);
                entries := entries + 1;
            end loop;
        when 'number' then
            return least(
                octet_length(given::text),
                octet_length(replace(replace((given::double precision)::text, 'e+', 'e'), 'e-0', 'e-'))
            );
        else
            return octet_length(given::text);
    end case;
    return total + greatest(entries - 1, 0);
end
$$;

insert into safe_migrations (version, oldest_binary) values ('20261126000200', '20261124000600');
