-- The single characters of a longer pattern say no more than its pairs do, and there are far more texts that have one.
create or replace function pattern_pieces(given text) returns text[] language plpgsql immutable strict parallel safe as $$
declare
    pairs text[] := '{}';
begin
    if char_length(given) < 2 then
        return text_pieces(given);
    end if;
    for place in 1 .. char_length(given) - 1 loop
        pairs := pairs || substr(given, place, 2);
    end loop;
    return pairs;
end
$$;
comment on function pattern_pieces is 'The pieces that a text must have to hold the pattern';

insert into safe_migrations (version, oldest_binary) values ('20261126000100', '20261124000600');
