create table safe_migrations (
    version text collate "C" primary key,
    oldest_binary text collate "C" not null
);
comment on table safe_migrations is 'Migrations that binaries may serve on which do not know them; each adds its own row';
comment on column safe_migrations.version is 'The migration, as __diesel_schema_migrations has it';
comment on column safe_migrations.oldest_binary is 'Newest migration of the oldest binary that it is safe for';
