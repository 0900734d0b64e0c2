comment on column accounts.email_bound_at is 'When its user bound the verified address; null for one that came with the user';
comment on column accounts.phone_bound_at is 'When its user bound the verified number; null for one that came with the user';

delete from safe_migrations where version = '20261201000301';
