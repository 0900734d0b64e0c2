-- Adds groups to a stored list and takes others out of it: the list keeps its order, and new groups come last. The two
-- lists have no repeats and share no group. A list that would be too long is null, which the column refuses; it must
-- not raise inside a statement over many rows.
create function change_groups(stored bigint[], added bigint[], removed bigint[]) returns bigint[]
language plpgsql immutable strict parallel safe as $$
declare
    made bigint[] := stored;
    given bigint;
begin
    -- The usual change of a few groups runs no query: it would cost more than the change. For long lists, to look each
    -- group up in the other list would cost far more.
    if cardinality(added) + cardinality(removed) <= 16 then
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
    else
        made := array(
            select listed.id from (
                select kept.id, kept.place from unnest(stored) with ordinality as kept (id, place)
                where not exists (select from unnest(removed) as gone (id) where gone.id = kept.id)
                union all
                select new.id, cardinality(stored) + new.place from unnest(added) with ordinality as new (id, place)
                where not exists (select from unnest(stored) as kept (id) where kept.id = new.id)
            ) as listed (id, place)
            order by listed.place
        );
    end if;
    if cardinality(made) > 1000 then
        return null;
    end if;
    return made;
end
$$;
comment on function change_groups is 'The groups after the change, without repeats; null where they are more than 1000';

insert into safe_migrations (version, oldest_binary) values ('20261201000101', '20261124000600');
