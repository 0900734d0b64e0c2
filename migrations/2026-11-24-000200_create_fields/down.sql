drop table field_values;
drop table field_definitions;
