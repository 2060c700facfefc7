"""The messages of Salesforce's Pub/Sub API that we use, made from their description at run time.

https://github.com/forcedotcom/pub-sub-api/blob/main/pubsub_api.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "eventbus.v1"
_ENUM = "ReplayPreset"
LATEST, EARLIEST, CUSTOM = range(3)

_F = descriptor_pb2.FieldDescriptorProto
_TYPES = {"string": _F.TYPE_STRING, "bytes": _F.TYPE_BYTES, "int32": _F.TYPE_INT32}
#: Message -> field -> (number, type); a type in brackets is repeated.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "ProducerEvent": {"id": (1, "string"), "schema_id": (2, "string"), "payload": (3, "bytes")},
    "ConsumerEvent": {"event": (1, "ProducerEvent"), "replay_id": (2, "bytes")},
    "FetchRequest": {
        "topic_name": (1, "string"),
        "replay_preset": (2, _ENUM),
        "replay_id": (3, "bytes"),
        "num_requested": (4, "int32"),
    },
    "FetchResponse": {
        "events": (1, "[ConsumerEvent]"),
        "latest_replay_id": (2, "bytes"),
        "pending_num_requested": (4, "int32"),
    },
    "SchemaRequest": {"schema_id": (1, "string")},
    "SchemaInfo": {"schema_json": (1, "string"), "schema_id": (2, "string")},
}


def _made() -> Mapping[str, Any]:
    """The message classes, in a pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="syncline/pubsub.proto", package=_PACKAGE, syntax="proto3"
    )
    presets = file.enum_type.add(name=_ENUM)
    for number, name in enumerate(("LATEST", "EARLIEST", "CUSTOM")):
        presets.value.add(name=name, number=number)
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, (number, word) in fields.items():
            bare = word.strip("[]")
            field = made.field.add(name=name, number=number)
            field.label = _F.LABEL_OPTIONAL if bare == word else _F.LABEL_REPEATED
            field.type = _TYPES.get(bare, _F.TYPE_ENUM if bare == _ENUM else _F.TYPE_MESSAGE)
            if bare not in _TYPES:
                field.type_name = f".{_PACKAGE}.{bare}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _made()
ProducerEvent = _CLASSES["ProducerEvent"]
ConsumerEvent = _CLASSES["ConsumerEvent"]
FetchRequest = _CLASSES["FetchRequest"]
FetchResponse = _CLASSES["FetchResponse"]
SchemaRequest = _CLASSES["SchemaRequest"]
SchemaInfo = _CLASSES["SchemaInfo"]
