drop table idempotency;
drop table tokens;
