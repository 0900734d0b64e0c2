drop table outbox;
drop table limits;
drop table codes;
