"""Times as Salesforce keeps and shows them: whole seconds, UTC, an offset without a colon."""

from datetime import UTC, date, datetime


def shown(at: datetime) -> str:
    """`2026-01-01T00:00:00.000+0000`."""
    return f"{at.astimezone(UTC).isoformat()[:19]}.000+0000"


def moment(text: str) -> datetime:
    """A time in ISO 8601 with a zone, or a day; `ValueError` for anything else."""
    if len(text) == 10:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at.astimezone(UTC).replace(microsecond=0)


def day(text: str) -> str:
    """A day, `2026-01-01`; `ValueError` for anything else."""
    if len(text) != 10:
        raise ValueError(text)
    return date.fromisoformat(text).isoformat()
