"""Every metric, in one list.

Counters and histograms are raised where the work happens; the gauges are read from the
database when somebody asks (`app.api.health`), so that any replica tells the same.

API and worker are two processes: when ``PROMETHEUS_MULTIPROC_DIR`` names a directory they
share (``syncline serve`` sees to it), either of them answers for both.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

SHARED = "PROMETHEUS_MULTIPROC_DIR"

REGISTRY = CollectorRegistry()
if SHARED not in os.environ:  # these two know one process only
    ProcessCollector(registry=REGISTRY)
    PlatformCollector(registry=REGISTRY)

# ------------------------------------------------------------------------- what comes in

DELIVERIES = Counter(
    "syncline_deliveries",
    "Webhooks by fate: accepted, duplicate or refused. A name that is no account of ours "
    "counts under the empty account.",
    ("account", "outcome", "reason"),
    registry=REGISTRY,
)
INGEST_SECONDS = Histogram(
    "syncline_ingest_seconds",
    "From the last byte of a webhook to our answer.",
    ("account",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
EVENTS = Counter(
    "syncline_events",
    "Events by answer: handled, ignored or unsupported.",
    ("account", "answer"),
    registry=REGISTRY,
)

SUBSCRIPTIONS_MENDED = Counter(
    "syncline_subscriptions_mended",
    "Webhook subscriptions that were not as they should be: missing, paused, partial, keyless or "
    "double.",
    ("account", "trouble"),
    registry=REGISTRY,
)
CAUGHT_UP = Counter(
    "syncline_caught_up",
    "Changes that an account's own log told: known, when a webhook had told them; early, when one "
    "may still; missed, when none did.",
    ("account", "entity", "found"),
    registry=REGISTRY,
)

DRIFT_RECORDS = Counter(
    "syncline_drift_records",
    "Linked records that were compared with what their account shows: equal or differing.",
    ("account", "entity", "found"),
    registry=REGISTRY,
)
DRIFT_DIFFERENCES = Counter(
    "syncline_drift_differences",
    "What such comparisons found, by its likely cause.",
    ("account", "cause"),
    registry=REGISTRY,
)

# ------------------------------------------------------------------------- what we decide

OBSERVATIONS = Counter(
    "syncline_observations",
    "States of remote records that were compared with ours.",
    ("account", "entity"),
    registry=REGISTRY,
)
RECORDS_CHANGED = Counter(
    "syncline_records_changed",
    "Records that an observation changed, by the account it came from.",
    ("account", "entity"),
    registry=REGISTRY,
)
CONFLICTS = Counter(
    "syncline_conflicts",
    "Fields where both sides moved, by what settled them: an account, latest or review.",
    ("entity", "policy"),
    registry=REGISTRY,
)

# ------------------------------------------------------------------------- what goes out

WRITES = Counter(
    "syncline_writes",
    "Changes carried to a CRM by their fate: ok, retry, dead …",
    ("account", "op", "outcome"),
    registry=REGISTRY,
)
VENDOR_CALLS = Counter(
    "syncline_vendor_calls",
    "HTTP calls to a CRM by class of answer: 2xx, 4xx, 429, 5xx, or none.",
    ("account", "status"),
    registry=REGISTRY,
)
VENDOR_CALL_SECONDS = Histogram(
    "syncline_vendor_call_seconds",
    "How long a CRM took to answer.",
    ("account",),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)

# ------------------------------------------------------------------------- what is asked

REQUESTS = Counter(
    "syncline_requests",
    "Calls of the API by class of answer; webhooks are counted apart.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "syncline_request_seconds",
    "How long a call of the API took.",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)

# ------------------------------------------------------------------------- what is waiting

OUTBOX_DEPTH = Gauge(
    "syncline_outbox_depth",
    "Records that are ahead of an account.",
    ("account",),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
LANE_LAG_SECONDS = Gauge(
    "syncline_lane_lag_seconds",
    "Age of the oldest work that a lane has waiting.",
    ("account", "direction"),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
GUARD_HELD = Gauge(
    "syncline_guard_held",
    "Writes that an account's guard holds until a person decides.",
    ("account", "op"),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge(
    "syncline_dead_letters",
    "Rows that need a person.",
    ("account",),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
QUOTA_USED = Gauge(
    "syncline_quota_used",
    "Calls that weigh on a window of an account's quota now, by group; `day`: since midnight.",
    ("account", "window"),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
QUOTA_CALLS = Gauge(
    "syncline_quota_calls",
    "The most calls that such a window may hold.",
    ("account", "window"),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
QUOTA_ENDS = Gauge(
    "syncline_quota_ends_timestamp_seconds",
    "When the day's calls will be used up at the pace of the last hour, as Unix time; when the "
    "day ends if they last.",
    ("account",),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
WORKER_HEARTBEAT = Gauge(
    "syncline_worker_heartbeat_timestamp_seconds",
    "When a worker last said that it is alive, as Unix time.",
    ("worker",),
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)


def status_class(status: int | None) -> str:
    """The label of an answer: `429` for itself, else `2xx` …; `none` when nothing came."""
    if status is None:
        return "none"
    return "429" if status == 429 else f"{status // 100}xx"


def expose() -> tuple[bytes, str]:
    """What Prometheus reads, and its content type."""
    if SHARED not in os.environ:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return generate_latest(together), CONTENT_TYPE_LATEST
