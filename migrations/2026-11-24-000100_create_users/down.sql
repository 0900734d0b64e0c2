drop table connections;
drop table unique_values;
drop table accounts;
drop table deleted_users;
drop table users;
drop function text_pieces;
drop function fold_case;
