"""The messages of the Pub/Sub API, built at run time from a table.

https://github.com/forcedotcom/pub-sub-api/blob/main/pubsub_api.proto
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "eventbus.v1"
_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
}
#: Fields in the order of their numbers; `*` repeats, another name is a message.
_MESSAGES = {
    "TopicInfo": "topic_name:string tenant_guid:string can_publish:bool can_subscribe:bool "
    "schema_id:string rpc_id:string",
    "TopicRequest": "topic_name:string",
    "EventHeader": "key:string value:bytes",
    "ProducerEvent": "id:string schema_id:string payload:bytes headers:EventHeader*",
    "ConsumerEvent": "event:ProducerEvent replay_id:bytes",
    "FetchRequest": "topic_name:string replay_preset:ReplayPreset replay_id:bytes "
    "num_requested:int32 auth_refresh:string",
    "FetchResponse": "events:ConsumerEvent* latest_replay_id:bytes rpc_id:string "
    "pending_num_requested:int32",
    "SchemaRequest": "schema_id:string",
    "SchemaInfo": "schema_json:string schema_id:string rpc_id:string",
}
LATEST, EARLIEST, CUSTOM = range(3)


def _built() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="sandbox/pubsub.proto", package=PACKAGE, syntax="proto3"
    )
    presets = file.enum_type.add(name="ReplayPreset")
    for number, name in enumerate(("LATEST", "EARLIEST", "CUSTOM")):
        presets.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, spec in enumerate(fields.split(), 1):
            field, _, kind = spec.partition(":")
            type = kind.rstrip("*")
            made = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if kind.endswith("*"):
                made.label = _FIELD.LABEL_REPEATED
            if type in _TYPES:
                made.type = _TYPES[type]
            else:
                is_enum = type == "ReplayPreset"
                made.type = _FIELD.TYPE_ENUM if is_enum else _FIELD.TYPE_MESSAGE
                made.type_name = f".{PACKAGE}.{type}"
    # A pool of our own: other programs know messages of the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in _MESSAGES)
    return {d.name: message_factory.GetMessageClass(d) for d in found}


messages = _built()
