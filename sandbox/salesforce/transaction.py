"""All or nothing: what one request changes, to be told to the world or taken back."""

import contextlib
import secrets
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.records import Record
from sandbox.wire import Call, Json

if TYPE_CHECKING:
    from sandbox.salesforce.org import Salesforce


@dataclass(slots=True)
class Change:
    """What became of one record: the fields that changed, with their former values."""

    record: Record
    kind: str
    before: Json = field(default_factory=dict)
    master: str | None = None  # the survivor of the merge that this record was lost in


@dataclass(slots=True)
class Transaction:
    """The changes of one request, one for each record, in order."""

    call: Call
    key: str
    changes: dict[str, Change] = field(default_factory=dict)
    _saved: dict[str, tuple[Record, Record | None]] = field(default_factory=dict)

    def touch(self, record: Record, *, new: bool = False) -> None:
        """Remember a record as it was before the first change."""
        if record.id not in self._saved:
            self._saved[record.id] = (record, None if new else deepcopy(record))

    def note(self, record: Record, kind: str, before: Json, *, master: str | None = None) -> None:
        """Several changes of one record are one, as the world sees it."""
        known = self.changes.get(record.id)
        if known is None:
            self.changes[record.id] = Change(record, kind, dict(before), master)
        elif kind == "update":
            known.before = {**before, **known.before}
        elif known.kind == "create" and kind == "delete":
            del self.changes[record.id]
        else:
            known.kind, known.master = kind, master

    def undo(self, org: "Salesforce") -> None:
        for record, old in self._saved.values():
            org.unindex(record)
            if old is None:
                org.store.forget(record.type, record.id)
                continue
            record.fields, record.history = old.fields, old.history
            record.updated, record.gone = old.updated, old.gone
            org.index(record)


@contextlib.contextmanager
def transaction(org: "Salesforce", call: Call) -> Iterator[Transaction]:
    """The transaction under way, or one of its own: told when it ends well, undone if not."""
    if org.transaction is not None:
        yield org.transaction
        return
    org.transaction = Transaction(call, secrets.token_hex(16))
    before = len(org.store.written)
    try:
        yield org.transaction
    except BaseException:
        org.transaction.undo(org)
        del org.store.written[before:]
        raise
    else:
        org.told(org.transaction)
    finally:
        org.transaction = None
