insert into peer_deliveries (account, key, body)
values ('close', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), convert_to(:body, 'UTF8'))
