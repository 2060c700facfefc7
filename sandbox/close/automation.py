"""Workflows that answer a change by the API with a change of their own, as a user of Close."""

import contextlib
from collections.abc import Callable

from sandbox.close.checks import read
from sandbox.close.events import watched
from sandbox.close.org import Close, new_request_id
from sandbox.options import Workflow
from sandbox.records import Record
from sandbox.wire import Actor, Call, RefusedError, now


def follow(org: Close, call: Call, record: Record, names: list[str]) -> None:
    """Start the workflows that a change of these fields starts."""
    if call.actor.is_person:
        return
    for workflow in org.options.due(record.type, names):
        org.later.put(workflow.delay, _fighting(org, record, workflow))


def _fighting(org: Close, record: Record, workflow: Workflow) -> Callable[[], None]:
    def act() -> None:
        if record.gone:
            return
        user = org.users[-1]["id"]
        call = Call("PUT", "/workflow/", at=now(), actor=Actor("CRM_UI", user=user))
        wanted = {workflow.field: workflow.outcome(record.get(workflow.field))}
        with contextlib.suppress(RefusedError):
            values = read(org, record.type, wanted, record.fields)
            with watched(org, call, new_request_id(), record):
                org.store.update(record, values, at=call.at, by=call.actor)
                org.store.note(record, {"updated_by": user}, at=call.at, by=call.actor)

    return act
