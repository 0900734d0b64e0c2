-- Applies a list of changes to a document, each {"op", "path", "value", "kind"}. Gives the new document, or
-- a JSON string "REASON:field" where one of them cannot be done; the table's check refuses that string.
create or replace function change_document(document jsonb, changes jsonb) returns jsonb
language plpgsql immutable strict parallel safe as $$
declare
    change jsonb;
    name text;
    operand jsonb;
    held jsonb;
    item jsonb;
    made jsonb;
begin
    -- The usual operators run no query in here: it would cost more than the change.
    for number in 0 .. jsonb_array_length(changes) - 1 loop
        change := changes -> number;
        name := change #>> '{path,0}';
        operand := change -> 'value';
        case change ->> 'op'
            when 'set' then
                document := document || jsonb_build_object(name, operand);
                continue;
            when 'unset' then
                document := document - name;
                continue;
            when 'incr_by' then
                made := add_at_path(document, change -> 'path', 0, operand, change ->> 'kind');
                if jsonb_typeof(made) = 'string' then
                    return to_jsonb((made #>> '{}') || ':' || name);
                end if;
                document := made;
                continue;
            else
                held := nullif(document -> name, 'null');
        end case;

        if jsonb_typeof(held) <> (case change ->> 'op' when 'update' then 'object' else 'array' end) then
            return to_jsonb('OP_TYPE_MISMATCH:' || name);
        end if;
        case change ->> 'op'
            when 'update' then
                made := coalesce(held, '{}') || operand;
            when 'append' then
                made := coalesce(held, '[]') || operand;
            when 'append_unique' then
                made := coalesce(held, '[]');
                for item in select * from jsonb_array_elements(operand) loop
                    if not exists (select 1 from jsonb_array_elements(made) as present where present = item) then
                        made := made || jsonb_build_array(item);
                    end if;
                end loop;
            when 'remove' then
                continue when held is null;
                made := coalesce((
                    select jsonb_agg(present order by place)
                    from jsonb_array_elements(held) with ordinality as kept (present, place)
                    where not exists (select 1 from jsonb_array_elements(operand) as gone where gone = present)
                ), '[]');
            when 'pop' then
                continue when held is null;
                made := held - case operand::integer when 1 then -1 else 0 end;
        end case;
        if jsonb_typeof(made) = 'array' and jsonb_array_length(made) > 1000 then
            return to_jsonb('DOCUMENT_TOO_LARGE:' || name);
        end if;
        document := document || jsonb_build_object(name, made);
    end loop;

    return limited(document);
end
$$;

drop function append_unique(jsonb, jsonb);

delete from safe_migrations where version = '20261201000600';
