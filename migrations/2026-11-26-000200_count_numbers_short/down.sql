delete from safe_migrations where version = '20261126000200';
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
        else
            return octet_length(given::text);
    end case;
    return total + greatest(entries - 1, 0);
end
$$;
