create table known_clients (
    user_id bigint not null,
    client_hash bytea not null,
    last_login_at timestamptz not null,
    constraint known_clients_pkey primary key (user_id, client_hash)
);
create index known_clients_last_login_at on known_clients (last_login_at);
comment on table known_clients is 'Clients that logged in to an account: strangers who guess its password do not lock them out';
comment on column known_clients.user_id is 'The user';
comment on column known_clients.client_hash is 'HMAC of the client that VerifyPassword was told, with a key of the deployment';
comment on column known_clients.last_login_at is 'When it last logged in';

insert into safe_migrations (version, oldest_binary) values ('20261201000501', '20261124000600');
