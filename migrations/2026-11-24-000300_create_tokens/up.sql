create table tokens (
    token_hash bytea primary key,
    token_id bigint generated always as identity,
    service text collate "C",
    user_id bigint,
    scopes text[] not null default '{}',
    created_at timestamptz not null,
    expires_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz,
    constraint tokens_subject check ((service is null) <> (user_id is null))
);
create index tokens_token_id on tokens (token_id);
create index tokens_service on tokens (service, token_id desc) where service is not null;
create index tokens_user_id on tokens (user_id, token_id desc) where user_id is not null;
comment on table tokens is 'Opaque tokens; the secret itself is nowhere';
comment on column tokens.token_hash is 'SHA-256 of the secret';
comment on column tokens.token_id is 'By which it is listed and revoked';
comment on column tokens.service is 'The service that it speaks for';
comment on column tokens.user_id is 'The user that it speaks for';
comment on column tokens.scopes is 'What it may do';
comment on column tokens.created_at is 'When it was issued';
comment on column tokens.expires_at is 'From when it is refused';
comment on column tokens.last_used_at is 'Written at most once a minute';
comment on column tokens.revoked_at is 'When it was revoked';

create table idempotency (
    request_id uuid not null,
    caller text collate "C" not null,
    rpc text not null,
    user_id bigint,
    key_id text not null,
    fingerprint bytea not null,
    reply bytea not null,
    created_at timestamptz not null,
    constraint idempotency_pkey primary key (request_id, caller, rpc)
);
create index idempotency_created_at on idempotency (created_at);
create index idempotency_user_id on idempotency (user_id) where user_id is not null;
comment on table idempotency is 'Replies of writes that carried a request id, kept for a day';
comment on column idempotency.request_id is 'The caller''s id of the request';
comment on column idempotency.caller is 'service:<name> or user:<id>';
comment on column idempotency.rpc is 'The method';
comment on column idempotency.user_id is 'Whose data the reply holds, where it is one user''s: it goes with them';
comment on column idempotency.key_id is 'The key of the fingerprint';
comment on column idempotency.fingerprint is 'HMAC-SHA256 of the request''s body';
comment on column idempotency.reply is 'The reply as protobuf';
comment on column idempotency.created_at is 'When the work was done';
