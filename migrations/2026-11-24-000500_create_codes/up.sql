create table codes (
    code_id bigint generated always as identity,
    user_id bigint not null,
    channel text not null,
    purpose text not null,
    address text collate "C" not null,
    nonce bytea not null,
    key_id text not null,
    attempts integer not null default 0,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    superseded_at timestamptz,
    constraint codes_pkey primary key (user_id, code_id)
);
create index codes_created_at on codes (created_at);
comment on table codes is 'One-time codes that were sent; the digits are derived from key and nonce and are nowhere';
comment on column codes.code_id is 'Id of the code; the newest one of a user, channel and purpose decides';
comment on column codes.user_id is 'Who may show it';
comment on column codes.channel is 'email or phone';
comment on column codes.purpose is 'bind, replace, password, wallet_password or unlink';
comment on column codes.address is 'Folded address that it was sent to';
comment on column codes.nonce is 'Random bytes of this code';
comment on column codes.key_id is 'The key that it was derived with';
comment on column codes.attempts is 'Tries so far, counted before the compare';
comment on column codes.created_at is 'When it was sent';
comment on column codes.expires_at is 'Until when it is good';
comment on column codes.used_at is 'When it was used';
comment on column codes.superseded_at is 'When a newer one, or a changed password, voided it';

create table limits (
    key text collate "C" primary key,
    hits timestamptz[] not null,
    expires_at timestamptz not null
);
create index limits_expires_at on limits (expires_at);
comment on table limits is 'Budgets of sends and guesses, in sliding windows';
comment on column limits.key is 'What is limited, and for whom';
comment on column limits.hits is 'When it was used, oldest first, within the window';
comment on column limits.expires_at is 'From when the row says nothing more';

create table outbox (
    outbox_id bigint generated always as identity primary key,
    channel text not null,
    recipient text not null,
    template text not null,
    languages text[] not null,
    app_name text not null,
    user_id bigint,
    code_id bigint,
    message_id uuid not null,
    state text not null default 'queued',
    attempts integer not null default 0,
    next_attempt_at timestamptz not null,
    leased_until timestamptz,
    expires_at timestamptz,
    last_error text,
    owner_caller text,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index outbox_due on outbox (next_attempt_at) where state = 'queued';
create index outbox_expiring on outbox (expires_at) where state = 'queued';
create index outbox_state on outbox (state, updated_at);
create index outbox_user_id on outbox (user_id);
comment on table outbox is 'Mails and text messages, written with their cause and sent by a worker';
comment on column outbox.outbox_id is 'The delivery''s id';
comment on column outbox.channel is 'email or phone';
comment on column outbox.recipient is 'Address as it was given';
comment on column outbox.template is 'Which text, for example code.bind or notice.email_changed';
comment on column outbox.languages is 'Languages to be tried, best first: the one asked for, then the profile''s';
comment on column outbox.app_name is 'Application that is named as the sender; empty is the deployment''s own name';
comment on column outbox.user_id is 'Whose code or notice it is';
comment on column outbox.code_id is 'The code that it carries, derived anew for each try';
comment on column outbox.message_id is 'Stays the same over all tries';
comment on column outbox.state is 'queued, accepted, failed or expired';
comment on column outbox.attempts is 'Tries so far';
comment on column outbox.next_attempt_at is 'When it is due';
comment on column outbox.leased_until is 'Until when one worker alone may send it; who holds this very lease may settle the row';
comment on column outbox.expires_at is 'After this it is not sent any more';
comment on column outbox.last_error is 'Class of the last failure, without addresses';
comment on column outbox.owner_caller is 'Who caused it';
comment on column outbox.created_at is 'When it was caused';
comment on column outbox.updated_at is 'When its state last changed';
