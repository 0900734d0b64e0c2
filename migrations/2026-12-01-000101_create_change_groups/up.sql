-- Adds groups to a stored list and takes others out of it: the list keeps its order, and new groups come last. A list
-- that would be too long is null, which the column refuses; it must not raise inside a statement over many rows. There
-- is no query in here: it would cost more than the usual change of one group.
create function change_groups(stored bigint[], added bigint[], removed bigint[]) returns bigint[]
language plpgsql immutable strict parallel safe as $$
declare
    made bigint[] := stored;
    given bigint;
begin
    foreach given in array removed loop
        if given = any (made) then
            made := array_remove(made, given);
        end if;
    end loop;
    foreach given in array added loop
        if not given = any (made) then
            made := made || given;
        end if;
    end loop;
    if cardinality(made) > 1000 then
        return null;
    end if;
    return made;
end
$$;
comment on function change_groups is 'The groups after the change, without repeats; null where they are more than 1000';

insert into safe_migrations (version, oldest_binary) values ('20261201000101', '20261124000600');
