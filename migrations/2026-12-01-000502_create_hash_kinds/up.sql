create table hash_kinds (
    kind text collate "C" primary key
);
comment on table hash_kinds is 'Kinds of password hashes that were written: a wrong password takes as long as the slowest of them';
comment on column hash_kinds.kind is 'Function and parameters, as the hash begins: $2b$10$, or $pbkdf2-sha256$i=100000$';

-- The kinds of hashes that migrated users have. It reads all accounts once, and holds no one up.
insert into hash_kinds (kind)
select distinct case
    when hash like '$2_$%' then '$2b$' || substr(hash, 5, 3)
    else regexp_replace(regexp_replace(hash, '[^$]+[$][^$]+$', ''), ',l=[0-9]+', '')
end
from (
    select password_hash as hash from accounts where password_hash is not null
    union all
    select wallet_password_hash from accounts where wallet_password_hash is not null
) hashes
where hash not like '$argon2id$v=19$m=19456,t=2,p=1$%';

insert into safe_migrations (version, oldest_binary) values ('20261201000502', '20261124000600');
