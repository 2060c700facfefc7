"""What the local Salesforce does of its own accord, and how its administrator has set it up."""

from dataclasses import dataclass, field

from sandbox.options import Options
from sandbox.wire import Json

_LISTS = ("hidden", "read_only")


@dataclass(slots=True)
class SalesforceOptions(Options):
    """What only Salesforce can do.

    `hidden` and `read_only` are fields, as `Account.Website`, that the API's users cannot see or
    edit. `rotate`: a refresh token works once. `session_seconds`: how long a session lives
    without a call. `daily_limit`: calls per day, 0 for no limit. `lock_rows`: so many rows to
    come cannot be locked. `duplicate_rule` refuses (`block`) or questions (`alert`) a second
    record with the same e-mail address, or the same name of a company. `callouts` and
    `outbound_messages`: whether these are sent; `callout_fields`: whether the former tell values.
    `stamp_lag`: commits carry a
    time so many seconds ago. `job_seconds`: how long a bulk job seems to take. `break_jobs`: so
    many to come fail half-way. `multi_currency`
    and `person_accounts`: features of the org. `change_events`: whether changes go to the event
    bus; `gap_events`: so many to come say only that there was one. `keep_alive`: after how many
    seconds a silent stream says that it lives.
    """

    hidden: list[str] = field(default_factory=list)
    read_only: list[str] = field(default_factory=list)
    rotate: bool = False
    session_seconds: float = 7200.0
    daily_limit: int = 0
    lock_rows: int = 0
    duplicate_rule: str = ""
    callouts: bool = True
    callout_fields: bool = True
    outbound_messages: bool = True
    stamp_lag: float = 0.0
    job_seconds: float = 0.1
    break_jobs: int = 0
    multi_currency: bool = False
    change_events: bool = True
    gap_events: int = 0
    keep_alive: float = 60.0
    person_accounts: bool = False

    def set(self, wanted: Json) -> None:
        """Change what is named; `ValueError` for what this CRM does not know."""
        rest = dict(wanted)
        for name in _LISTS:
            names = rest.pop(name, None)
            if names is None:
                continue
            if not isinstance(names, list) or not all("." in str(text) for text in names):
                raise ValueError(f"{name} is a list of fields, such as Account.Website")
            setattr(self, name, names)
        rule = rest.pop("duplicate_rule", self.duplicate_rule)
        if rule not in ("", "block", "alert"):
            raise ValueError("duplicate_rule is block, alert or empty")
        self.duplicate_rule = rule
        # Named, because a dataclass with slots is a new class, which `super()` does not know.
        Options.set(self, rest)
