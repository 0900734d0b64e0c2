-- A constant default is no rewrite: rows that are there have the time of this statement, and those that the binary of the
-- release before adds have their own.
alter table accounts
    add column email_set_at timestamptz default now(),
    add column phone_set_at timestamptz default now(),
    add column password_unproven_at timestamptz;

comment on column accounts.email_set_at is
    'When the email was set, by which one that stays unverified gives way; for those of before, when this column was added';
comment on column accounts.phone_set_at is
    'When the phone was set, by which one that stays unverified gives way; for those of before, when this column was added';
comment on column accounts.password_unproven_at is
    'When the password was set without the proof of an older factor; null for any other password';

insert into safe_migrations (version, oldest_binary) values ('20261201000302', '20261124000600');
