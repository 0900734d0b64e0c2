drop function change_document;
drop function add_at_path;
drop function add_number;
drop function limited;
drop function compact_size;
