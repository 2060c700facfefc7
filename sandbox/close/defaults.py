"""What a fresh organisation contains: users, statuses and a pipeline with fixed ids."""

from sandbox.wire import Json


def _fixed(prefix: str, text: str) -> str:
    """A recognisable id with the length of a real one."""
    return f"{prefix}_{text:0<43}"


ORGANIZATION = _fixed("orga", "SandboxOrganization")

USERS: list[Json] = [
    {
        "id": _fixed("user", "GraceHopper"),
        "email": "grace@syncline.example",
        "first_name": "Grace",
        "last_name": "Hopper",
    },
    {
        "id": _fixed("user", "AlanTuring"),
        "email": "alan@syncline.example",
        "first_name": "Alan",
        "last_name": "Turing",
    },
]

# Who left keeps the id, and what was done with it.
INACTIVE_USERS: list[Json] = [
    {
        "id": _fixed("user", "BarbaraLiskov"),
        "email": "barbara@syncline.example",
        "first_name": "Barbara",
        "last_name": "Liskov",
    },
]

LEAD_STATUSES: list[Json] = [
    {"id": _fixed("stat", "Lead" + label.replace(" ", "")), "label": label}
    for label in ("Potential", "Qualified", "Customer", "Bad Fit")
]

PIPELINES: list[Json] = [
    {
        "id": _fixed("pipe", "Sales"),
        "name": "Sales",
        "statuses": [
            {"id": _fixed("stat", label), "label": label, "status_type": kind}
            for label, kind in (
                ("New", "active"),
                ("Qualified", "active"),
                ("Demo", "active"),
                ("Proposal", "active"),
                ("Won", "won"),
                ("Lost", "lost"),
            )
        ],
    }
]
