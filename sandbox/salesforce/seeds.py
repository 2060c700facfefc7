"""Many accounts with contacts, leads and deals at once, for demonstrations and load."""

from collections import Counter

from sandbox.names import company, person
from sandbox.records import Record
from sandbox.salesforce import rows
from sandbox.salesforce.defaults import EDITOR
from sandbox.salesforce.org import PERSON_SOURCE, Salesforce
from sandbox.salesforce.transaction import transaction
from sandbox.wire import Actor, Call, Json, now


def seed(org: Salesforce, wanted: Json) -> Json:
    """Make accounts with contacts, deals, cases and tasks, and leads; announced unless quiet."""
    call = Call("POST", "/sobjects", at=now(), actor=Actor(PERSON_SOURCE, EDITOR, EDITOR))
    stages = [s.get("ApiName") for s in org.store.live("OpportunityStage")]
    counts: Counter[str] = Counter()
    first = sum(1 for _ in org.store.all("Account"))
    leads = sum(1 for _ in org.store.all("Lead"))

    def make(type: str, fields: Json) -> Record:
        counts[type] += 1
        return rows.create(org, call, org.schema.objects[type], fields)

    with transaction(org, call) as under_way:
        for number in range(first, first + wanted.get("accounts", 0)):
            name, domain = company(number)
            account = make("Account", {"Name": name, "Website": f"https://{domain}"})
            for index in range(wanted.get("contacts_per_account", 1)):
                given, family, email = _person(number + 7919 * index, domain)
                row = {"FirstName": given, "LastName": family, "Email": email}
                make("Contact", {**row, "AccountId": account.id})
            for index in range(wanted.get("opportunities_per_account", 0)):
                deal = {
                    "Name": f"{name} deal {index + 1}",
                    "AccountId": account.id,
                    "StageName": stages[(number + index) % len(stages)],
                    "Amount": (number % 97 + 1) * 100,
                    "CloseDate": "2030-12-31",
                }
                make("Opportunity", deal)
            for index in range(wanted.get("cases_per_account", 0)):
                make("Case", {"Subject": f"{name} case {index + 1}", "AccountId": account.id})
            for index in range(wanted.get("tasks_per_account", 0)):
                make("Task", {"Subject": f"{name} task {index + 1}", "WhatId": account.id})
        for number in range(leads, leads + wanted.get("leads", 0)):
            name, domain = company(number + 104_729)
            given, family, email = _person(number + 104_729, domain)
            row = {"FirstName": given, "LastName": family, "Email": email, "Company": name}
            make("Lead", row)
        if wanted.get("quiet", True):
            under_way.changes.clear()
    always = ("Account", "Contact", "Opportunity")
    return {type: counts[type] for type in (*always, *(set(counts) - {*always}))}


def _person(number: int, domain: str) -> tuple[str, str, str]:
    full, local = person(number)
    given, family = full.split()
    return given, family, f"{local}@{domain}"
