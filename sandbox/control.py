"""The controls at `/_sandbox/`: reset, calls, history, faults, webhooks, seeds; and the page."""

from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING

from sandbox.page import SHOWN, render
from sandbox.webhooks import Weather
from sandbox.wire import Answer, Call, Routes

if TYPE_CHECKING:
    from sandbox.front import Front

controls = Routes()


@controls.on("GET", "/")
def page(front: "Front", call: Call) -> Answer:
    """The records of all vendors, side by side."""
    html = render({name: vendor.tables(SHOWN) for name, vendor in front.vendors.items()})
    return Answer(200, html, {"content-type": "text/html; charset=utf-8"})


@controls.on("GET", "/_sandbox/records")
def records(front: "Front", call: Call) -> Answer:
    """What the page shows, as JSON."""
    tables = {name: vendor.tables(None) for name, vendor in front.vendors.items()}
    return Answer(
        200,
        {name: {title: t.rows for title, t in found.items()} for name, found in tables.items()},
    )


@controls.on("POST", "/_sandbox/reset")
def reset(front: "Front", call: Call) -> Answer:
    """Back to the built-in data; no calls, no faults, no webhooks under way."""
    for vendor in front.vendors.values():
        vendor.reset()
    for sender in front.senders.values():
        sender.clear()
    front.faults.active.clear()
    front.log.clear()
    front.dirty.set()
    return Answer(200, {"reset": True})


@controls.on("GET", "/_sandbox/calls")
def calls(front: "Front", call: Call) -> Answer:
    """Calls since a time (ISO 8601 or Unix seconds), oldest first."""
    entries = list(front.log.entries)
    if vendor := call.one("vendor"):
        entries = [entry for entry in entries if entry.vendor == vendor]
    if since := call.one("since"):
        at = _moment(since)
        entries = [entry for entry in entries if entry.at.timestamp() >= at]
    return Answer(200, {"calls": [asdict(entry) for entry in entries]})


@controls.on("GET", "/_sandbox/counts")
def counts(front: "Front", call: Call) -> Answer:
    """Totals per vendor, and how much is still to come; a person's calls are not in them."""
    totals = front.log.counts(list(front.vendors))
    for name, vendor in front.vendors.items():
        waiting = sum(sender.pending for sender in front.senders_of(name))
        totals[name]["pending"] = waiting + vendor.later.pending
    return Answer(200, totals)


@controls.on("GET", "/_sandbox/history/{vendor}/{type}/{id}")
def history(front: "Front", call: Call, vendor: str, type: str, id: str) -> Answer:
    """Every value each field of a record ever had, in order."""
    found = front.vendors[vendor].history(type, id)
    return Answer(200, found) if found else Answer(404, {"error": f"no {type} {id}"})


@controls.on("GET", "/_sandbox/faults")
def list_faults(front: "Front", call: Call) -> Answer:
    return Answer(200, {"faults": [asdict(fault) for fault in front.faults.active]})


@controls.on("POST", "/_sandbox/faults")
def add_fault(front: "Front", call: Call) -> Answer:
    """Put a fault in force until it is used up, over, or cleared."""
    return Answer(201, asdict(front.faults.add(call.json(), call.at)))


@controls.on("DELETE", "/_sandbox/faults")
def clear_faults(front: "Front", call: Call) -> Answer:
    front.faults.active.clear()
    return Answer(204)


@controls.on("GET", "/_sandbox/webhooks")
def webhooks(front: "Front", call: Call) -> Answer:
    """How the deliveries of each vendor stand."""
    return Answer(200, {name: sender.status() for name, sender in front.senders.items()})


@controls.on("POST", "/_sandbox/webhooks")
def set_webhooks(front: "Front", call: Call) -> Answer:
    """Pause, resume, duplicate, shuffle, delay or lose deliveries; of one vendor or of all."""
    wanted = call.json()
    known = {f.name for f in fields(Weather)}
    if unknown := set(wanted) - known - {"vendor", "pause", "resume"}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    changes = {name: wanted[name] for name in known & set(wanted)}
    if wanted.get("pause"):
        changes["paused"] = True
    if wanted.get("resume"):
        changes["paused"] = False
    chosen = front.senders_of(wanted["vendor"]) if wanted.get("vendor") else front.senders.values()
    if not chosen:
        raise ValueError(f"unknown: {wanted['vendor']}")
    for sender in chosen:
        sender.set(replace(sender.weather, **changes))
    return webhooks(front, call)


@controls.on("GET", "/_sandbox/options")
def options(front: "Front", call: Call) -> Answer:
    """What each CRM does of its own accord, and how much of it is still to come."""
    return Answer(
        200,
        {
            name: {**asdict(vendor.options), "pending": vendor.later.pending}
            for name, vendor in front.vendors.items()
        },
    )


@controls.on("POST", "/_sandbox/options")
def set_options(front: "Front", call: Call) -> Answer:
    """Switch such things on and off: `{"hubspot": {"auto_company": true}}`."""
    wanted = call.json()
    for name in wanted:
        if name not in front.vendors:
            raise ValueError(f"unknown: {name}")
    for name, changes in wanted.items():
        front.vendors[name].options.set(changes)
    front.dirty.set()
    return options(front, call)


@controls.on("POST", "/_sandbox/users")
def set_user(front: "Front", call: Call) -> Answer:
    """Somebody joins (`active`, the default) or leaves one CRM or all, by e-mail address."""
    person = call.json()
    vendor, active = person.pop("vendor", None), person.pop("active", True)
    if not isinstance(person.get("email"), str) or not isinstance(active, bool):
        raise ValueError("email is needed, and active is true or false")
    if unknown := set(person) - {"email", "first_name", "last_name"}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    names = [vendor] if vendor else list(front.vendors)
    front.dirty.set()
    return Answer(200, {n: front.vendors[n].staff(person, active=active) for n in names})


@controls.on("POST", "/_sandbox/seed")
def seed(front: "Front", call: Call) -> Answer:
    """Fill the vendors named in the body with records; `quiet` (the default) sends no webhooks."""
    wanted = call.json()
    quiet = wanted.pop("quiet", True)
    made = {
        name: front.vendors[name].seed({"quiet": quiet, **spec}) for name, spec in wanted.items()
    }
    for vendor in front.vendors.values():
        vendor.drain()
    front.dirty.set()
    return Answer(200, made)


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text.replace(" ", "+")).timestamp()
