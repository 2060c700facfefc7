"""A local Close, after https://developer.close.com/api/overview."""

from sandbox.close import (  # the routes
    activities,
    custom_fields,
    events,
    merges,
    objects,
    search,
    setup,
    statuses,
    tasks,
)

__all__ = [
    "activities",
    "custom_fields",
    "events",
    "merges",
    "objects",
    "search",
    "setup",
    "statuses",
    "tasks",
]
