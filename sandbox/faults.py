"""Trouble on request: slow answers, refusals, dropped connections, outages."""

import random
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sandbox.wire import Answer, Json

KINDS = ("latency", "status", "retry_after", "drop_before", "drop_after_commit", "outage")


@dataclass(slots=True)
class Fault:
    """One kind of trouble for the calls it matches, so many times or until a moment.

    It strikes a ``share`` of them, at random.
    """

    kind: str
    vendor: str | None = None
    method: str | None = None
    path: str | None = None
    times: int | None = None
    until: datetime | None = None
    seconds: float = 1.0
    status: int = 500
    body: Any = None
    share: float = 1.0

    def matches(self, vendor: str, method: str, path: str, at: datetime) -> bool:
        return (
            self.vendor in (None, vendor)
            and self.method in (None, method)
            and (self.path is None or re.search(self.path, path) is not None)
            and self.times != 0
            and (self.until is None or at < self.until)
            and (self.share >= 1 or random.random() < self.share)
        )

    def answer(self) -> Answer | None:
        """What is said instead of asking the vendor; None if the vendor is asked."""
        if self.kind == "status":
            return Answer(self.status, self.body or {"error": f"sandbox fault {self.status}"})
        if self.kind == "retry_after":
            headers = {
                "retry-after": str(max(round(self.seconds), 1)),
                "ratelimit": f"limit=100, remaining=0, reset={self.seconds}",
            }
            body = {
                "status": "error",
                "message": "You have reached your ten_secondly_rolling limit.",
                "errorType": "RATE_LIMIT",
                "policyName": "TEN_SECONDLY_ROLLING",
            }
            return Answer(429, self.body or body, headers)
        return None


class Faults:
    """The faults now in force. The first that matches a call strikes it."""

    def __init__(self) -> None:
        self.active: list[Fault] = []

    def add(self, wanted: Json, at: datetime) -> Fault:
        """Put a fault in force; `ValueError` if it makes no sense."""
        match = wanted.get("match") or {}
        if wanted.get("fault") not in KINDS:
            raise ValueError(f"fault must be one of {', '.join(KINDS)}")
        until = wanted.get("until")
        fault = Fault(
            kind=wanted["fault"],
            vendor=wanted.get("vendor"),
            method=match.get("method"),
            path=match.get("path"),
            times=wanted.get("times"),
            until=at + timedelta(seconds=until) if until is not None else None,
            seconds=wanted.get("seconds", 1.0),
            status=wanted.get("status", 500),
            body=wanted.get("body"),
            share=wanted.get("share", 1.0),
        )
        self.active.append(fault)
        return fault

    def strike(self, vendor: str, method: str, path: str, at: datetime) -> Fault | None:
        """The fault that hits this call, used up by one."""
        for fault in self.active:
            if fault.matches(vendor, method, path, at):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None
