drop index concurrently tokens_issued_by;
