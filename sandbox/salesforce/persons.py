"""What people do in Salesforce's pages, and REST has no call for: merge, convert, undelete.

https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_calls_merge.htm and
https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_calls_convertlead.htm
"""

from sandbox.records import Record
from sandbox.salesforce import bus, rows
from sandbox.salesforce.errors import invalid, missing
from sandbox.salesforce.org import Salesforce, people
from sandbox.salesforce.transaction import transaction
from sandbox.wire import Answer, Call, Json


@people.on("POST", "/merge")
def merge(org: Salesforce, call: Call) -> Answer:
    """`master` takes the children of up to two others and what `fields` says; they are deleted."""
    body = org.read_json(call)
    master = _live(org, body["master"])
    losers = [_live(org, id) for id in body["others"]]
    type = org.schema.objects[master.type]
    alike = all(loser.type == master.type for loser in losers)
    if not type.mergeable or not alike or master in losers or not 1 <= len(losers) <= 2:
        text = "one record takes in one or two others of its own type: Account, Contact, Lead, Case"
        raise invalid("INVALID_ID_FIELD", text)
    with transaction(org, call):
        for loser in losers:
            _adopt(org, call, loser, master)
            rows.remove(org, call, loser, master=master.id)
            loser.fields["MasterRecordId"] = master.id
        rows.change(org, call, type, master, body.get("fields", {}))
    return Answer(200, {"id": master.id, "mergedRecordIds": [loser.id for loser in losers]})


def _adopt(org: Salesforce, call: Call, loser: Record, master: Record) -> None:
    """Whatever points to the loser points to its master from now on."""
    for type in org.schema.objects.values():
        links = [f.name for f in type.fields.values() if loser.type in f.targets and f.createable]
        for record in list(org.store.live(type.name)) if links else ():
            moved = {name: master.id for name in links if record.get(name) == loser.id}
            if moved and record is not master:
                rows.write(org, call, record, moved)


@people.on("POST", "/convert")
def convert(org: Salesforce, call: Call) -> Answer:
    """A lead becomes a contact of an account, and a deal unless `opportunity` is null.

    `account` and `contact` are ids of those that are there already.
    """
    body = org.read_json(call)
    lead = _live(org, body["lead"])
    if lead.type != "Lead" or lead.get("IsConverted"):
        raise invalid("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
    with transaction(org, call):
        account = _given(org, body, "account") or _made(org, call, "Account", _account(lead))
        contact = _given(org, body, "contact")
        if contact is None:
            contact = _made(org, call, "Contact", _contact(lead) | {"AccountId": account.id})
        name = body.get("opportunity", f"{account.get('Name')}-")
        deal = _made(org, call, "Opportunity", _deal(call, account, name)) if name else None
        if deal:
            ends = {"OpportunityId": deal.id, "ContactId": contact.id, "IsPrimary": True}
            _made(org, call, "OpportunityContactRole", ends)
        _follow(org, call, lead, contact)
        status = next(s for s in org.store.live("LeadStatus") if s.get("IsConverted"))
        values = {
            "IsConverted": True,
            "Status": status.get("ApiName"),
            "ConvertedDate": call.at.date().isoformat(),
            "ConvertedAccountId": account.id,
            "ConvertedContactId": contact.id,
            "ConvertedOpportunityId": deal.id if deal else None,
        }
        rows.write(org, call, lead, values)
    found = {"accountId": account.id, "contactId": contact.id}
    return Answer(200, {**found, "leadId": lead.id, "opportunityId": deal.id if deal else None})


def _account(lead: Record) -> Json:
    names = ("Phone", "Website", "Industry", "AnnualRevenue", "NumberOfEmployees")
    found = {name: lead.get(name) for name in names} | {"Name": lead.get("Company")}
    places = ("Street", "City", "State", "PostalCode", "Country")
    return found | {f"Billing{name}": lead.get(name) for name in places}


def _contact(lead: Record) -> Json:
    names = ("FirstName", "LastName", "Salutation", "Title", "Email", "Phone", "MobilePhone")
    found = {name: lead.get(name) for name in (*names, "LeadSource", "Description")}
    places = ("Street", "City", "State", "PostalCode", "Country")
    return found | {f"Mailing{name}": lead.get(name) for name in places}


def _deal(call: Call, account: Record, name: str) -> Json:
    day = call.at.date().replace(day=28).isoformat()
    stage = {"StageName": "Prospecting", "CloseDate": day}
    return {"Name": name, "AccountId": account.id, **stage}


def _follow(org: Salesforce, call: Call, lead: Record, contact: Record) -> None:
    """What was done with the lead was done with the contact."""
    for type in ("Task", "Event"):
        for record in list(org.store.live(type)):
            if record.get("WhoId") == lead.id:
                rows.write(org, call, record, {"WhoId": contact.id})


def _made(org: Salesforce, call: Call, type: str, fields: Json) -> Record:
    known = {name: value for name, value in fields.items() if value is not None}
    return rows.create(org, call, org.schema.objects[type], known)


def _given(org: Salesforce, body: Json, name: str) -> Record | None:
    return _live(org, body[name]) if body.get(name) else None


def _live(org: Salesforce, id: str) -> Record:
    record = org.of_any_type(id)
    if record is None or record.gone:
        raise missing()
    return record


@people.on("POST", "/undelete")
def undelete(org: Salesforce, call: Call) -> Answer:
    """Out of the recycle bin, with what went there together with it."""
    ids = org.read_json(call)["ids"]
    records = [org.of_any_type(id) for id in ids]
    with transaction(org, call):
        for record in records:
            if record is None or not record.gone:
                raise invalid("UNDELETE_FAILED", "Entity is not in the recycle bin")
            rows.restore(org, call, record)
    return Answer(200, [{"id": id, "success": True, "errors": []} for id in ids])


@people.on("POST", "/empty-recycle-bin")
def empty(org: Salesforce, call: Call) -> Answer:
    """What is in there is gone for good, and nobody is told."""
    gone = [r for type in org.schema.objects for r in org.store.all(type) if r.gone]
    for record in gone:
        org.store.forget(record.type, record.id)
    return Answer(200, {"deleted": len(gone)})


@people.on("POST", "/gap-events")
def tell_gap(org: Salesforce, call: Call) -> Answer:
    """Salesforce could not tell what became of records: `change` says whether they were made."""
    body = org.read_json(call)
    bus.gap(org, call, body.get("change", "UPDATE"), [_live(org, id) for id in body["ids"]])
    return Answer(200, {})


@people.on("POST", "/overflow-event")
def tell_overflow(org: Salesforce, call: Call) -> Answer:
    """A transaction changed too much of an object to be told."""
    bus.overflow(org, call, org.read_json(call)["object"])
    return Answer(200, {})


@people.on("POST", "/forget-events")
def forget_events(org: Salesforce, call: Call) -> Answer:
    """As if three days had passed: the bus has nothing any more."""
    org.bus.forget()
    return Answer(200, {})


@people.on("POST", "/expire-sessions")
def expire(org: Salesforce, call: Call) -> Answer:
    """As an administrator ends all sessions: the next call of each is a 401."""
    ended = len(org.sessions)
    org.sessions.clear()
    return Answer(200, {"ended": ended})
