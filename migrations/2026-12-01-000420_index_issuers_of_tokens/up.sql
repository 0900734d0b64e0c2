-- Revoking a token revokes what it issued. The issuer comes first, because all that a service issued is revoked at once
-- too. A statement by itself, for it must not run in a transaction: the migration before says for whom this one is safe.
create index concurrently tokens_issued_by on tokens (issued_by, parent_hash) where parent_hash is not null;
