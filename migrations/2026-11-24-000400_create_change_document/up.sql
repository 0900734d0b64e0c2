-- The size of a document as compact JSON in bytes.
create function compact_size(given jsonb) returns bigint language plpgsql immutable strict parallel safe as $$
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
comment on function compact_size is 'Bytes of the value as JSON without spaces';

-- Adds a number to the value at a path, integers exactly and other numbers as doubles; objects that are missing on the way are made. A fault comes back as
-- a JSON string, for it must not raise inside a statement over many rows.
create function add_at_path(document jsonb, path text[], operand jsonb, kind text) returns jsonb
language plpgsql immutable parallel safe as $$
declare
    step text := path[1];
    held jsonb := nullif(document -> step, 'null');
    inner_value jsonb;
    total numeric;
    a float8;
    b float8;
begin
    if cardinality(path) > 1 then
        if held is not null and jsonb_typeof(held) <> 'object' then
            return '"OP_TYPE_MISMATCH"';
        end if;
        inner_value := add_at_path(coalesce(held, '{}'), path[2:], operand, kind);
        if jsonb_typeof(inner_value) = 'string' then
            return inner_value;
        end if;
        return document || jsonb_build_object(step, inner_value);
    end if;
    if held is not null and jsonb_typeof(held) <> 'number' then
        return '"OP_TYPE_MISMATCH"';
    end if;
    if kind = 'integer' then
        total := coalesce(held::numeric, 0) + operand::numeric;
        if total not between -9223372036854775808 and 9223372036854775807 then
            return '"OP_OVERFLOW"';
        end if;
        return document || jsonb_build_object(step, trim_scale(total));
    end if;
    a := coalesce(held, '0')::float8;
    b := operand::float8;
    -- The sum of the halves tells of an overflow before the addition would raise one.
    if least(abs(a), abs(b)) > 1e290 and abs(a / 2 + b / 2) > 8.988465674311579e307 then
        return '"OP_OVERFLOW"';
    end if;
    return document || jsonb_build_object(step, a + b);
end
$$;
comment on function add_at_path is 'The document with a number added at the path, or a fault as a JSON string';

-- Applies a list of changes to a document, each {"op", "path", "value", "kind"}. Gives the new document, or
-- a JSON string "REASON:field" where one of them cannot be done; the table's check refuses that string.
create function change_document(document jsonb, changes jsonb) returns jsonb
language plpgsql immutable strict parallel safe as $$
declare
    change jsonb;
    name text;
    operand jsonb;
    held jsonb;
    item jsonb;
    made jsonb;
begin
    for change in select * from jsonb_array_elements(changes) loop
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
                made := add_at_path(
                    document, array(select jsonb_array_elements_text(change -> 'path')), operand, change ->> 'kind'
                );
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

    -- A document that is small in binary cannot pass either limit; only others are measured.
    if pg_column_size(document) > 1000 and (select count(*) from jsonb_object_keys(document)) > 128 then
        return to_jsonb('DOCUMENT_TOO_LARGE:'::text);
    end if;
    if pg_column_size(document) > 10000 and compact_size(document) > 65536 then
        return to_jsonb('DOCUMENT_TOO_LARGE:'::text);
    end if;
    return document;
end
$$;
comment on function change_document is 'The document after the changes, or a fault as a JSON string';
