-- Until now an address could authorize changes of its account 24 hours after its user had bound it. The addresses of that
-- age, or of any other, count as confirmed; younger ones count as bound without the proof of an older factor, and are
-- confirmed when their user names them again with the password or with a code sent to a confirmed address. A binary of
-- the release before reads null as an address without a waiting time, which is what a confirmed one is.
update accounts set email_bound_at = null where email_bound_at < now() - interval '24 hours';
update accounts set phone_bound_at = null where phone_bound_at < now() - interval '24 hours';

comment on column accounts.email_bound_at is
    'When its user bound the verified address without the proof of an older factor; null for any other address';
comment on column accounts.phone_bound_at is
    'When its user bound the verified number without the proof of an older factor; null for any other number';

insert into safe_migrations (version, oldest_binary) values ('20261201000301', '20261124000600');
