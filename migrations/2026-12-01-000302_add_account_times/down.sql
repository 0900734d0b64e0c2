alter table accounts drop column password_unproven_at, drop column phone_set_at, drop column email_set_at;

delete from safe_migrations where version = '20261201000302';
