-- As it was, and IMMUTABLE: a distributed Postgres refuses any other function in what an UPDATE sets. The functions that it
-- calls are IMMUTABLE too, without which Postgres would not make it a part of the statement that calls it.
create or replace function add_number(document jsonb, field text, operand jsonb, kind text) returns jsonb
language sql immutable parallel safe as $$
    select case
        when jsonb_typeof(coalesce(nullif(document -> field, 'null'), '0')) <> 'number' then '"OP_TYPE_MISMATCH"'
        when kind = 'integer' then case
            when coalesce(nullif(document -> field, 'null')::numeric, 0) + operand::numeric
                between -9223372036854775808 and 9223372036854775807
            then jsonb_set(
                document,
                array[field],
                trim_scale(coalesce(nullif(document -> field, 'null')::numeric, 0) + operand::numeric)::text::jsonb
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
        else jsonb_set(
            document,
            array[field],
            (coalesce(nullif(document -> field, 'null'), '0')::float8 + operand::float8)::text::jsonb
        )
    end
$$;

insert into safe_migrations (version, oldest_binary) values ('20261201000700', '20261126000200');
