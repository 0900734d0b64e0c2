create table field_definitions (
    field_id bigint generated always as identity primary key,
    name text collate "C" not null,
    kind text not null,
    item_kind text,
    description text not null default '',
    default_value jsonb,
    required boolean not null default false,
    is_unique boolean not null default false,
    index_state text not null default 'none',
    user_writable boolean not null default false,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    fill_from bigint,
    deleted_at timestamptz,
    constraint field_definitions_name unique (name)
);
comment on table field_definitions is 'The application''s own fields';
comment on column field_definitions.field_id is 'Never used again, so that values of a deleted field cannot be taken for those of its successor';
comment on column field_definitions.name is 'The key in users.custom_fields; taken until the values of a deleted field are erased';
comment on column field_definitions.kind is 'string, integer, number, boolean, date, object, array, geojson or file';
comment on column field_definitions.item_kind is 'Kind of an array''s items';
comment on column field_definitions.description is 'For people';
comment on column field_definitions.default_value is 'Value of profiles that are made without one';
comment on column field_definitions.required is 'New profiles need a value, and no change may clear it';
comment on column field_definitions.is_unique is 'Only one user may hold a value';
comment on column field_definitions.index_state is 'none; filling: writers keep its values in field_values; ready: all values are there and readers rest on it; leaving: readers do no more, writers still do';
comment on column field_definitions.user_writable is 'A user may change it on their own profile';
comment on column field_definitions.created_at is 'When it was made';
comment on column field_definitions.changed_at is 'When index_state or deleted_at last changed; the second step waits from here';
comment on column field_definitions.fill_from is 'The user up to whom the background work has come; null before it began';
comment on column field_definitions.deleted_at is 'When it was deleted; its values are being erased since';

create table field_values (
    field_id bigint not null,
    value bytea not null,
    created_at timestamptz not null,
    user_id bigint not null,
    constraint field_values_pkey primary key (field_id, value, created_at, user_id)
);
create index field_values_user_id on field_values (user_id, field_id);
comment on table field_values is 'Values of indexed fields: one row a value, one row an item for arrays';
comment on column field_values.field_id is 'The field';
comment on column field_values.value is 'The value in bytes that sort as the value does';
comment on column field_values.created_at is 'users.created_at, so that a rare value is found newest first';
comment on column field_values.user_id is 'Whose value it is';
