"""Creates by the thousand in every CRM at once; of every twentieth call the answer is lost."""

import json
from collections import Counter
from pathlib import Path

from tests.chaos.ground import Ground, at_once, ground
from tests.chaos.result import Result
from tests.full.harness import Company, Json

WORKERS = 2
#: What may lose its answer: every call that makes a record.
CREATES = {
    "hubspot": r"/objects/(companies|contacts)(/batch/(create|upsert))?$",
    "close": r"/(lead|contact)/$",
    "salesforce": r"/composite/sobjects",
}
#: Of so many families one is made in HubSpot: Close takes twenty of a kind in a second, no more.
HUBSPOT_EVERY = 4
#: A family is a company and a person, made in one CRM and carried to the other.
FAMILY = 2


async def storms(folder: Path, *, creates: int, share: float) -> Result:
    """So many records are to be made by us, in both directions, and a share of answers is lost."""
    result = Result("creates with lost answers")
    count = creates // FAMILY
    async with ground(folder, workers=WORKERS, sandbox=["--no-quota"]) as place:
        for vendor, path in CREATES.items():
            method = "PATCH" if vendor == "salesforce" else "POST"  # an upsert by our id
            await place.world.crms.fault(
                vendor, "drop_after_commit", method=method, path=path, share=share
            )
        companies = [Company.new("Storm") for _ in range(count)]
        await at_once(_found(place, n, company) for n, company in enumerate(companies))
        place.say(f"{count * FAMILY:,} records made by people; waiting until all are carried")
        # The last to lose an answer are found again like all the others.
        result.recovered = await place.idle()
        await place.world.crms.clear_faults()
        await place.idle()
        result.accepted = count * FAMILY
        calls = await place.world.crms.control("GET", "calls")
        lost = [c for c in calls["calls"] if c["write"] and c["status"] == 0]
        rows = sum(call["rows"] for call in lost)
        result.notes.append(f"{len(lost):,} calls lost their answers, with {rows:,} new records")
        await _judge(place, companies, result)
    result.judge()
    return result


async def _found(place: Ground, number: int, company: Company) -> None:
    """A company and a person, in one CRM or the other."""
    if number % HUBSPOT_EVERY:
        await place.close.create(
            "lead",
            name=company.name,
            url=f"https://{company.domain}",
            contacts=[company.contact("Ada Lovelace")],
        )
        return
    firm = await place.hubspot.create("companies", name=company.name, domain=company.domain)
    await place.hubspot.create(
        "contacts", firstname="Ada", lastname="Lovelace", email=company.email("ada"), company=firm
    )


async def _judge(place: Ground, companies: list[Company], result: Result) -> None:
    """Each stands in each CRM once; what does not is named on a card or in a dead letter."""
    service = place.world.syncline
    flagged = json.dumps(
        [await service.rows("/api/conflicts"), await service.rows("/api/dead-letters")]
    )
    cards = await service.rows("/api/conflicts")
    there = await place.hubspot.all("companies")
    people = await place.hubspot.all("contacts")
    leads = await place.close.all("lead")
    firms = await place.world.salesforce.query("SELECT Id, Name FROM Account")
    third = await place.world.salesforce.query("SELECT Id, Email FROM Contact")
    found: dict[str, list[str]] = {}
    for row in there:
        found.setdefault(f"hubspot company {row['domain']}", []).append(row["id"])
    for row in people:
        found.setdefault(f"hubspot person {row['email']}", []).append(row["id"])
    for lead in leads:
        found.setdefault(f"close company {lead['name']}", []).append(lead["id"])
        for contact in lead["contacts"]:
            found.setdefault(f"close person {_email(contact)}", []).append(contact["id"])
    for row in firms:
        found.setdefault(f"salesforce company {row['Name']}", []).append(row["Id"])
    for row in third:
        found.setdefault(f"salesforce person {row['Email']}", []).append(row["Id"])
    missing: Counter[str] = Counter()
    for company in companies:
        names = (
            f"hubspot company {company.domain}",
            f"close company {company.name}",
            f"hubspot person {company.email('ada')}",
            f"close person {company.email('ada')}",
            f"salesforce company {company.name}",
            f"salesforce person {company.email('ada')}",
        )
        for name in names:
            copies = found.get(name, [])
            if len(copies) == 1:
                continue
            if any(id in flagged for id in copies) or company.domain in flagged:
                result.notes.append(f"flagged: {name} stands {len(copies)} times")
            elif copies:
                result.doubled += len(copies) - 1
            else:
                missing[name.split(" ", 2)[0]] += 1
    result.lost += sum(missing.values())
    result.notes.append(f"{len(cards)} cards for a person")


def _email(contact: Json) -> str:
    return contact["emails"][0]["email"] if contact["emails"] else ""
