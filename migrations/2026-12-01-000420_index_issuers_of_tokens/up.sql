-- Revoking a token revokes what it issued. The issuer comes first, because all that a service issued is revoked at once too.
create index concurrently tokens_issued_by on tokens (issued_by, parent_hash) where parent_hash is not null;

insert into safe_migrations (version, oldest_binary) values ('20261201000420', '20261124000600');
