"""Flows that answer a change by the API with a change of their own, as the same user.

https://help.salesforce.com/s/articleView?id=platform.flow_concepts_trigger_record.htm
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.options import Workflow
from sandbox.records import Record
from sandbox.salesforce.transaction import Transaction
from sandbox.wire import Actor, Call, RefusedError, now

if TYPE_CHECKING:
    from sandbox.salesforce.org import Salesforce


def follow(org: "Salesforce", transaction: Transaction) -> None:
    """Start the flows that a change of these fields starts. Flows do not start each other."""
    actor = transaction.call.actor
    if actor.source != "api":
        return
    for change in transaction.changes.values():
        if change.kind not in ("create", "update"):
            continue
        names = list(change.before if change.kind == "update" else change.record.fields)
        for flow in org.options.due(change.record.type, names):
            org.later.put(flow.delay, _acting(org, change.record, flow, actor))


def _acting(org: "Salesforce", record: Record, flow: Workflow, actor: Actor) -> Callable[[], None]:
    def act() -> None:
        from sandbox.salesforce.rows import change

        if record.gone:
            return
        call = Call("PATCH", "/flow", at=now(), actor=Actor("flow", actor.user, actor.user))
        wanted = {flow.field: flow.outcome(record.get(flow.field))}
        with contextlib.suppress(RefusedError):
            change(org, call, org.schema.objects[record.type], record, wanted)

    return act
