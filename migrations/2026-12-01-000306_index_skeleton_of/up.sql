create index concurrently accounts_skeleton_of on accounts (user_id) where skeleton_of is distinct from username_key;
