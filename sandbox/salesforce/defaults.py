"""What a fresh organisation contains: users, a queue, stages and statuses, a record type."""

from collections.abc import Iterator

from sandbox.salesforce.ids import whole
from sandbox.wire import Json

ORGANIZATION = whole("00DSb0000000001")
CREATED = "2024-01-01T00:00:00.000+00:00"
INTEGRATION = whole("005Sb0000000000")
EDITOR = whole("005Sb00000000Al")
EXTERNAL_ID = "Syncline_Id__c"
WITH_EXTERNAL_ID = ("Account", "Contact", "Lead", "Opportunity", "Case", "Task", "Event")


def user(id: str, email: str, first: str, last: str, *, active: bool = True) -> Json:
    """A user; the name to sign in with is the address here."""
    return {
        "Id": id,
        "Username": email,
        "Email": email,
        "FirstName": first,
        "LastName": last,
        "Name": f"{first} {last}".strip(),
        "Alias": (first[:1] + last[:4]).lower(),
        "IsActive": active,
        "UserType": "Standard",
    }


_USERS = (
    (INTEGRATION, "integration@syncline.example", "Syncline", "Integration", True),
    (whole("005Sb00000000Gr"), "grace@syncline.example", "Grace", "Hopper", True),
    (EDITOR, "alan@syncline.example", "Alan", "Turing", True),
    (whole("005Sb00000000Ba"), "barbara@syncline.example", "Barbara", "Liskov", False),
)
_STAGES = (
    ("Prospecting", 10, "Pipeline", "Pipeline"),
    ("Qualification", 10, "Pipeline", "Pipeline"),
    ("Needs Analysis", 20, "Pipeline", "Pipeline"),
    ("Value Proposition", 50, "Pipeline", "Pipeline"),
    ("Id. Decision Makers", 60, "Pipeline", "Pipeline"),
    ("Perception Analysis", 70, "Pipeline", "Pipeline"),
    ("Proposal/Price Quote", 75, "Pipeline", "Pipeline"),
    ("Negotiation/Review", 90, "Pipeline", "Pipeline"),
    ("Closed Won", 100, "Closed", "Closed"),
    ("Closed Lost", 0, "Omitted", "Omitted"),
)
_STATUSES = {
    "CaseStatus": ("New", "Working", "Escalated", "Closed"),
    "TaskStatus": (
        "Not Started",
        "In Progress",
        "Completed",
        "Waiting on someone else",
        "Deferred",
    ),
    "LeadStatus": (
        "Open - Not Contacted",
        "Working - Contacted",
        "Closed - Converted",
        "Closed - Not Converted",
    ),
}
_CLOSING = ("Closed", "Completed")


def rows() -> Iterator[tuple[str, Json]]:
    """The built-in records with their objects; those without an id get the next one."""
    organization = {
        "Name": "Sandbox",
        "OrganizationType": "Developer Edition",
        "InstanceName": "SBX1",
        "IsSandbox": False,
        "DefaultLocaleSidKey": "en_US",
        "TimeZoneSidKey": "GMT",
    }
    yield "Organization", {"Id": ORGANIZATION, **organization}
    for id, email, first, last, active in _USERS:
        yield "User", user(id, email, first, last, active=active)
    queue = whole("00GSb0000000001")
    names = {"Name": "Support", "DeveloperName": "Support"}
    yield "Group", {"Id": queue, "Type": "Queue", "Email": "support@syncline.example", **names}
    for type in ("Case", "Lead"):
        yield "QueueSobject", {"QueueId": queue, "SobjectType": type}
    business = {"Name": "New Business", "DeveloperName": "New_Business"}
    yield "RecordType", {**business, "SobjectType": "Opportunity", "IsActive": True}
    for order, (name, probability, category, category_name) in enumerate(_STAGES, 1):
        stage = {
            "ApiName": name,
            "MasterLabel": name,
            "IsActive": True,
            "SortOrder": order,
            "IsClosed": probability in (0, 100),
            "IsWon": probability == 100,
            "ForecastCategory": category,
            "ForecastCategoryName": category_name,
            "DefaultProbability": float(probability),
        }
        yield "OpportunityStage", stage
    for type, statuses in _STATUSES.items():
        for order, name in enumerate(statuses, 1):
            status = {"ApiName": name, "MasterLabel": name, "SortOrder": order}
            first_one = {"IsDefault": order == 1}
            if type == "LeadStatus":
                yield type, {**status, **first_one, "IsConverted": name == "Closed - Converted"}
            else:
                yield type, {**status, **first_one, "IsClosed": name in _CLOSING}
