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

-- The document where it is within the limits of documents, else a fault as a JSON string. One that is small in binary cannot pass either limit.
create function limited(document jsonb) returns jsonb language plpgsql immutable parallel safe as $$
begin
    if pg_column_size(document) <= 1000 then
        return document;
    end if;
    if (select count(*) from jsonb_object_keys(document)) > 128 then
        return '"DOCUMENT_TOO_LARGE:"';
    end if;
    if pg_column_size(document) > 10000 and compact_size(document) > 65536 then
        return '"DOCUMENT_TOO_LARGE:"';
    end if;
    return document;
end
$$;
comment on function limited is 'The document, or a fault as a JSON string where it is too large';

-- Adds a number to a field, integers exactly and other numbers as doubles. A fault comes back as a JSON string, for it must not raise inside a statement over
-- many rows. In SQL and no more than stable, as jsonb_build_object is, so that it becomes part of the statement that calls it.
create function add_number(document jsonb, field text, operand jsonb, kind text) returns jsonb
language sql stable parallel safe as $$
    select case
        when jsonb_typeof(coalesce(nullif(document -> field, 'null'), '0')) <> 'number' then '"OP_TYPE_MISMATCH"'
        when kind = 'integer' then case
            when coalesce(nullif(document -> field, 'null')::numeric, 0) + operand::numeric
                between -9223372036854775808 and 9223372036854775807
            then document || jsonb_build_object(
                field, trim_scale(coalesce(nullif(document -> field, 'null')::numeric, 0) + operand::numeric)
            )
            else '"OP_OVERFLOW"'
        end
        -- The sum of the halves tells of an overflow before the addition would raise one. The inner case keeps the planner
        -- from halving a very small operand, which raises too.
        when case when abs(operand::float8) > 1e290
            then abs(coalesce(nullif(document -> field, 'null'), '0')::float8) > 1e290
                and abs(coalesce(nullif(document -> field, 'null'), '0')::float8 / 2 + operand::float8 / 2)
                    > 8.988465674311579e307
            else false
        end
        then '"OP_OVERFLOW"'
        else document || jsonb_build_object(
            field, coalesce(nullif(document -> field, 'null'), '0')::float8 + operand::float8
        )
    end
$$;
comment on function add_number is 'The document with a number added to a field, or a fault as a JSON string';

-- Adds a number to the value at a path, from its step at `depth` on; objects that are missing on the way are made.
create function add_at_path(document jsonb, path jsonb, depth integer, operand jsonb, kind text) returns jsonb
language plpgsql immutable parallel safe as $$
declare
    step text := path ->> depth;
    held jsonb;
    made jsonb;
begin
    if depth + 1 = jsonb_array_length(path) then
        return add_number(document, step, operand, kind);
    end if;
    held := nullif(document -> step, 'null');
    if held is not null and jsonb_typeof(held) <> 'object' then
        return '"OP_TYPE_MISMATCH"';
    end if;
    made := add_at_path(coalesce(held, '{}'), path, depth + 1, operand, kind);
    if jsonb_typeof(made) = 'string' then
        return made;
    end if;
    return document || jsonb_build_object(step, made);
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
comment on function change_document is 'The document after the changes, or a fault as a JSON string';
