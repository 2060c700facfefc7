"""How Close words refusals and limits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from app.sdk import Answer, Dialect, Rate, Reason, retry_after


class CloseDialect(Dialect):
    """https://developer.close.com/api/overview/http-response-codes"""

    counts_by_path = True

    def explain(self, answer: Answer) -> Reason:
        data = answer.data if isinstance(answer.data, dict) else {}
        general = "; ".join(text for _, text in _leaves(data.get("errors") or data.get("error")))
        fields = list(_leaves(data.get("field-errors")))
        if not fields:
            return Reason(general) if general else super().explain(answer)
        name, _ = fields[0]
        # `contacts.0.emails` names a row of ours; the first part is the field.
        told = "; ".join(f"{path}: {text}" for path, text in fields)
        return Reason(f"{told}; {general}" if general else told, field=name.split(".")[0])

    def retry_at(self, answer: Answer, now: datetime) -> datetime:
        # `reset` may be decimal and is the finer of the two.
        wait = self.rate(answer).reset or retry_after(answer, now) or 1.0
        return now + timedelta(seconds=wait)

    def rate(self, answer: Answer) -> Rate:
        """``RateLimit: limit=100, remaining=50, reset=5``."""
        said = dict(
            re.findall(
                r"\b(limit|remaining|reset)=(\d+(?:\.\d+)?)", answer.headers.get("ratelimit", "")
            )
        )
        numbers = {name: float(text) for name, text in said.items()}
        limit = numbers.get("limit")
        return Rate(
            limit=None if limit is None else int(limit),
            remaining=numbers.get("remaining"),
            reset=numbers.get("reset"),
        )


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """Every text in what may be text, a list, or nested, with its dotted path."""
    match value:
        case None | "":
            return
        case dict():
            for name, inner in value.items():
                # Nested errors wrap themselves in these two words.
                plain = name in ("errors", "field-errors")
                yield from _leaves(inner, path if plain else f"{path}.{name}".lstrip("."))
        case list():
            for inner in value:
                yield from _leaves(inner, path)
        case _:
            yield path, str(value)
