"""What works in an org, what is missing, and what can be put in order by a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.connectors.salesforce import activities, history, leads, soql
from app.connectors.salesforce.kinds import ACTIVITIES, object_of
from app.connectors.salesforce.org import Described, Org
from app.connectors.salesforce.shapes import (
    ACCOUNT,
    ALWAYS,
    CASE,
    CONTACT,
    FEATURES,
    LEAD,
    OPPORTUNITY,
    STAND_INS,
)
from app.sdk import Account, Finding, Raw, RejectedError, SyncError

TYPES = (ACCOUNT, CONTACT, OPPORTUNITY)
#: … and what is looked over only where it travels.
MORE = (CASE, *ACTIVITIES)
#: Salesforce works these out: that nobody can set them is as it should be.
WORKED_OUT = frozenset({"CreatedDate", "IsClosed"})
#: The permission set that `prepare` makes: a new field is hidden from everybody until one shows it.
PERMISSIONS = "Syncline"
#: Our ids are UUIDs.
ID_LENGTH = 36
BY_HAND = (
    "In Salesforce open Setup, Object Manager, {type}, Fields & Relationships, New: Text, length "
    "36, name {name}, Unique and External ID ticked; give our user's permission set access to it."
)


async def check(
    org: Org, account: Account, properties: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """One sentence for each thing that must be well; never raises for a refusal."""
    fields = ("Id", "Name", "OrganizationType", "IsSandbox")
    try:
        (own,) = await org.query(soql.select(fields, "Organization", limit=1))
    except (SyncError, ValueError) as error:
        remedy = (
            "Check client_id, the user and login_url, that the app is approved for the user, that "
            "the user has the permission API Enabled, and api_version."
        )
        return [Finding("sign-in", False, getattr(error, "reason", str(error)), remedy)]
    kind = "a sandbox" if own.get("IsSandbox") else str(own.get("OrganizationType") or "an org")
    found = [Finding("sign-in", True, f"signed in to {own.get('Name')} ({own['Id']}), {kind}")]
    for type, wanted in _used(account, properties).items():
        found += await _check_type(org, account, type, wanted)
    found.append(await _check_limits(org))
    found.append(
        Finding(
            "webhooks",
            True,
            "Salesforce does not show who calls us: what no call-out tells is found by catch-up",
        )
    )
    return found


def _used(account: Account, properties: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The objects that are used, each with the fields that the mapping reads."""
    found: dict[str, list[str]] = {}
    for type in (*TYPES, *(type for type in MORE if type in properties)):
        found.setdefault(object_of(type), []).extend(properties.get(type, ()))
    for own in account.objects.values():
        if own.type in properties:
            found[own.type] = [*properties[own.type], *own.lookups.values()]
    if leads.travel(account):
        found[LEAD] = list(properties.get(CONTACT, ()))
    return {type: list(dict.fromkeys(names)) for type, names in found.items()}


async def _check_type(
    org: Org, account: Account, type: str, wanted: Sequence[str]
) -> list[Finding]:
    try:
        described = await org.describe(type, anew=True)
        tracked = await history.tracked(org, type)
    except SyncError as error:
        remedy = f"Give our user's permission set Read, Create, Edit and View All on {type}."
        return [Finding(f"read {type}", False, error.reason, remedy)]
    if not described.told:
        return [Finding(f"read {type}", True, "the address does not tell of its fields")]
    found = [Finding(f"read {type}", True, "can be read")]
    missing = [verb for verb in ("createable", "updateable") if not described.raw.get(verb, True)]
    if missing:
        words = " and ".join({"createable": "create", "updateable": "edit"}[v] for v in missing)
        found.append(
            Finding(
                f"write {type}",
                False,
                f"our user may not {words} them",
                f"Give our user's permission set Create and Edit on {type}.",
            )
        )
    found += _check_fields(described, type, wanted)
    found += await _check_persons(org, described, type)
    if (name := account.external_id) and type not in activities.ASKED:
        found.append(_check_external(described, type, name))
    kept = sorted(tracked & {*wanted})
    if kept:
        found.append(
            Finding(f"history of {type}", True, f"tells when these were edited: {', '.join(kept)}")
        )
    return found


def _always(type: str) -> Sequence[str]:
    return activities.ASKED.get(type) or ALWAYS.get(type, ("Id",))


def _check_fields(described: Described, type: str, wanted: Sequence[str]) -> list[Finding]:
    """Fields of ours that are hidden or cannot be edited, and theirs that a create must have."""
    found = []
    hidden = [n for n in (*_always(type), *wanted) if n not in described.fields]
    hidden = [name for name in dict.fromkeys(hidden) if name not in FEATURES]
    fixed = [
        name
        for name in wanted
        if name in described.fields
        and name not in WORKED_OUT
        and not described.writes(name, creating=True)
        and not described.writes(name, creating=False)
    ]
    for names, what, right in ((hidden, "are not shown", "Read"), (fixed, "cannot be set", "Edit")):
        if names:
            remedy = (
                f"Give our user's permission set {right} access to them (Object Settings, {type}, "
                "field permissions), or turn their rows off."
            )
            detail = f"{', '.join(names)}: {what} to our user"
            found.append(Finding(f"fields of {type}", False, detail, remedy))
    demanded = sorted(
        name
        for name, row in described.fields.items()
        if row.get("createable")
        and not row.get("nillable", True)
        and not row.get("defaultedOnCreate")
        and row.get("type") != "boolean"
        and name not in wanted
        and name not in STAND_INS.get(type, {})
        and name != "StageName"
    )
    if demanded and type != LEAD:  # people make leads, we never do
        detail = (
            f"{', '.join(demanded)}: the org demands a value, and no row of the mapping has one"
        )
        remedy = "Map them, with a constant perhaps, or make them optional in Salesforce."
        found.append(Finding(f"required by {type}", False, detail, remedy))
    return found


async def _check_persons(org: Org, described: Described, type: str) -> list[Finding]:
    """Person accounts are a company and a person in one, which no other CRM can hold."""
    if type != ACCOUNT or "IsPersonAccount" not in described.fields:
        return []
    where = soql.equals("IsPersonAccount", True)
    try:
        some = await org.query(soql.select(("Id",), type, where, limit=1))
    except SyncError as error:
        return [Finding("person accounts", False, error.reason, "Let our user read accounts.")]
    if not some:
        return [Finding("person accounts", True, "the org could have them, and has none")]
    return [
        Finding(
            "person accounts",
            False,
            "the org has person accounts, a company and a person in one: they are left alone, in "
            "both directions",
            "Keep people who are to travel as contacts of a business account.",
        )
    ]


async def _check_limits(org: Org) -> Finding:
    """https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_limits.htm"""
    try:
        answer = await org.client.call("GET", f"{org.root}/limits/")
        daily = answer.data["DailyApiRequests"]
        left, most = int(daily["Remaining"]), int(daily["Max"])
    except SyncError as error:
        return Finding("calls", False, error.reason, "Let our user see the org's setup.")
    except (KeyError, TypeError, ValueError):
        return Finding("calls", True, "the org does not tell how many are left")
    detail = f"{left:,} of {most:,} calls are left for 24 hours"
    remedy = "Buy more calls, or give each integration less of them."
    return Finding("calls", left * 10 > most, detail, None if left * 10 > most else remedy)


def _check_external(described: Described, type: str, name: str) -> Finding:
    check, by_hand = f"{type}.{name}", BY_HAND.format(type=type, name=name)
    if name not in described.fields:
        remedy = f"Run `syncline accounts prepare`. Or by hand: {by_hand}"
        return Finding(check, False, "the field does not exist, or is hidden from us", remedy)
    if not described.is_external_id(name):
        remedy = f"Tick both in its definition. {by_hand}"
        return Finding(check, False, "the field is not both External ID and Unique", remedy)
    if not described.writes(name, creating=True):
        remedy = "Give our user's permission set Edit access to it."
        return Finding(check, False, "our user may not set the field", remedy)
    return Finding(check, True, "exists, unique and an external id")


# ------------------------------------------------------------------------------- preparing


async def prepare(
    org: Org, account: Account, properties: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Make the field for our ids where it is missing; a person asked for it."""
    name = account.external_id
    if not name:
        remedy = "Set external_id in the configuration, for example to Syncline_Id__c."
        return [Finding("external_id", False, "the account names no field", remedy)]
    types = [type for type in _used(account, properties) if type not in activities.ASKED]
    return [await _prepare(org, type, name) for type in types]


async def _prepare(org: Org, type: str, name: str) -> Finding:
    try:
        described = await org.describe(type, anew=True)
        if name in described.fields:
            return _check_external(described, type, name)
        await _make_field(org, type, name)
        await _show_field(org, type, name)
        described = await org.describe(type, anew=True)
    except SyncError as error:
        by_hand = BY_HAND.format(type=type, name=name)
        remedy = f"Our user needs Customize Application for this call. {by_hand}"
        return Finding(f"{type}.{name}", False, error.reason, remedy)
    found = _check_external(described, type, name)
    return Finding(found.check, True, "created") if found.ok else found


async def _make_field(org: Org, type: str, name: str) -> None:
    """https://developer.salesforce.com/docs/atlas.en-us.api_tooling.meta/api_tooling/tooling_api_objects_customfield.htm"""
    metadata = {
        "type": "Text",
        "label": "Syncline Id",
        "description": "The id of this record in Syncline. Do not change it.",
        "length": ID_LENGTH,
        "externalId": True,
        "unique": True,
        "caseSensitive": False,
    }
    body = {"FullName": f"{type}.{name}", "Metadata": metadata}
    await org.client.call("POST", f"{org.root}/tooling/sobjects/CustomField/", json=body)


async def _show_field(org: Org, type: str, name: str) -> None:
    """Let our user see and set it, by a permission set of ours.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_fieldpermissions.htm
    """
    field = f"{type}.{name}"
    set_id = await _permission_set(org)
    body = {
        "ParentId": set_id,
        "SobjectType": type,
        "Field": field,
        "PermissionsRead": True,
        "PermissionsEdit": True,
    }
    await _insert(org, "FieldPermissions", body)


async def _permission_set(org: Org) -> str:
    where = soql.equals("Name", PERMISSIONS)
    known = await org.query(soql.select(("Id",), "PermissionSet", where))
    if known:
        set_id = str(known[0]["Id"])
    else:
        body = {
            "Name": PERMISSIONS,
            "Label": PERMISSIONS,
            "Description": "Fields that Syncline made.",
        }
        set_id = await _insert(org, "PermissionSet", body)
    me = await org.user()
    if me is None:
        raise RejectedError(
            "Salesforce does not tell who we are: assign the permission set yourself"
        )
    both = soql.every(soql.equals("PermissionSetId", set_id), soql.equals("AssigneeId", me))
    if not await org.query(soql.select(("Id",), "PermissionSetAssignment", both)):
        body = {"PermissionSetId": set_id, "AssigneeId": me}
        await _insert(org, "PermissionSetAssignment", body)
    return set_id


async def _insert(org: Org, type: str, body: Raw) -> str:
    answer = await org.client.call("POST", f"{org.root}/sobjects/{type}/", json=dict(body))
    return str(answer.data["id"])
