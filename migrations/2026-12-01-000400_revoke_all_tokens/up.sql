alter table accounts add column tokens_revoked_before timestamptz;
comment on column accounts.tokens_revoked_before is 'Signed tokens issued before this time are revoked, whoever holds them';

create table service_revocations (
    service text collate "C" primary key,
    revoked_before timestamptz not null
);
comment on table service_revocations is 'Services whose tokens were all revoked, one row per service';
comment on column service_revocations.service is 'The name of the service';
comment on column service_revocations.revoked_before is 'Signed tokens of the service issued before this time are revoked';

insert into safe_migrations (version, oldest_binary) values ('20261201000400', '20261124000600');
