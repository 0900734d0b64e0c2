drop function change_document;
drop function add_at_path;
drop function compact_size;
