-- Where peers and pgbench put what they are sent.
create table if not exists peer_deliveries (
    id bigint generated always as identity primary key,
    account text not null,
    key bytea not null,
    body bytea not null,
    received_at timestamptz not null default now(),
    unique (account, key)
);
