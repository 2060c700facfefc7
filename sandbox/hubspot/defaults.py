"""What a fresh portal contains: pipelines with their stages, and owners."""

from sandbox.wire import Json

CREATED = "2024-01-01T00:00:00.000Z"


def _stage(id: str, label: str, order: int, **metadata: str) -> Json:
    return {
        "id": id,
        "label": label,
        "displayOrder": order,
        "metadata": metadata,
        "archived": False,
        "createdAt": CREATED,
        "updatedAt": CREATED,
    }


def _pipeline(id: str, label: str, stages: list[Json]) -> Json:
    dates = {"createdAt": CREATED, "updatedAt": CREATED}
    return {
        "id": id,
        "label": label,
        "displayOrder": 0,
        "archived": False,
        "stages": stages,
        **dates,
    }


_DEAL_STAGES = (
    ("appointmentscheduled", "Appointment Scheduled", "0.2"),
    ("qualifiedtobuy", "Qualified To Buy", "0.4"),
    ("presentationscheduled", "Presentation Scheduled", "0.6"),
    ("decisionmakerboughtin", "Decision Maker Bought-In", "0.8"),
    ("contractsent", "Contract Sent", "0.9"),
    ("closedwon", "Closed Won", "1.0"),
    ("closedlost", "Closed Lost", "0.0"),
)
_TICKET_STAGES = (
    ("1", "New", "OPEN"),
    ("2", "Waiting on contact", "OPEN"),
    ("3", "Waiting on us", "OPEN"),
    ("4", "Closed", "CLOSED"),
)


def pipelines() -> dict[str, list[Json]]:
    """The pipelines of a fresh portal: `default` for deals, `0` for tickets."""
    deals = [
        _stage(id, label, n, probability=p, isClosed="true" if p in ("1.0", "0.0") else "false")
        for n, (id, label, p) in enumerate(_DEAL_STAGES)
    ]
    tickets = [
        _stage(id, label, n, ticketState=state, isClosed=str(state == "CLOSED").lower())
        for n, (id, label, state) in enumerate(_TICKET_STAGES)
    ]
    return {
        "deal": [_pipeline("default", "Sales Pipeline", deals)],
        "ticket": [_pipeline("0", "Support Pipeline", tickets)],
    }


def owner(id: str, email: str, first: str, last: str, user: int, archived: bool) -> Json:
    """An owner in the API's own words; who left is no user any more."""
    return {
        "id": id,
        "email": email,
        "type": "PERSON",
        "firstName": first,
        "lastName": last,
        "userId": None if archived else user,
        "userIdIncludingInactive": user,
        "createdAt": CREATED,
        "updatedAt": CREATED,
        "archived": archived,
        "teams": [],
    }


OWNERS = [
    owner("81001", "grace@syncline.example", "Grace", "Hopper", 901, False),
    owner("81002", "alan@syncline.example", "Alan", "Turing", 902, False),
    owner("81003", "barbara@syncline.example", "Barbara", "Liskov", 903, True),
]


def person(owners: list[Json], email: str = "") -> str | None:
    """Who edits in the product, as histories name people: by default the last active owner."""
    found = [o for o in owners if not o["archived"] and (not email or o["email"] == email)]
    return f"userId:{found[-1]['userId']}" if found else None
