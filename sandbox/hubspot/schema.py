"""HubSpot's object types, and the properties and pipelines a fresh portal has.

https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
"""

from dataclasses import dataclass

from sandbox.wire import Json

CREATED = "2024-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class ObjectType:
    """How an object type is called, what it shows unasked, and what a new one needs."""

    name: str
    plural: str
    id: str
    created: str
    modified: str
    defaults: tuple[str, ...]
    needs_one_of: tuple[str, ...]
    needs_all: tuple[str, ...] = ()
    searchable: tuple[str, ...] = ()


def _activity(name: str, plural: str, id: str, *more: str, text: str) -> ObjectType:
    dates = ("hs_createdate", "hs_lastmodifieddate")
    defaults = (*dates, "hs_object_id")
    return ObjectType(name, plural, id, *dates, defaults, (), ("hs_timestamp", *more), (text,))


TYPES = {
    type.name: type
    for type in (
        ObjectType(
            "contact",
            "contacts",
            "0-1",
            "createdate",
            "lastmodifieddate",
            ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"),
            ("email", "firstname", "lastname"),
            searchable=("firstname", "lastname", "email", "phone", "company"),
        ),
        ObjectType(
            "company",
            "companies",
            "0-2",
            "createdate",
            "hs_lastmodifieddate",
            ("createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"),
            ("name", "domain"),
            searchable=("name", "domain", "website", "phone"),
        ),
        ObjectType(
            "deal",
            "deals",
            "0-3",
            "createdate",
            "hs_lastmodifieddate",
            (
                *("amount", "closedate", "createdate", "dealname", "dealstage"),
                *("hs_lastmodifieddate", "hs_object_id", "pipeline"),
            ),
            (),
            ("dealname", "dealstage"),
            searchable=("dealname", "dealstage", "pipeline", "description"),
        ),
        ObjectType(
            "ticket",
            "tickets",
            "0-5",
            "createdate",
            "hs_lastmodifieddate",
            (
                *("content", "createdate", "hs_lastmodifieddate", "hs_object_id", "hs_pipeline"),
                *("hs_pipeline_stage", "hs_ticket_category", "hs_ticket_priority", "subject"),
            ),
            (),
            ("subject", "hs_pipeline_stage"),
            searchable=("subject", "content"),
        ),
        _activity("note", "notes", "0-46", text="hs_note_body"),
        _activity("meeting", "meetings", "0-47", text="hs_meeting_title"),
        _activity("call", "calls", "0-48", text="hs_call_title"),
        _activity("email", "emails", "0-49", "hs_email_direction", text="hs_email_subject"),
        _activity("task", "tasks", "0-27", text="hs_task_subject"),
    )
}

_NAMES = {
    spelling: type
    for type in TYPES.values()
    for spelling in (type.name, type.plural, type.id, type.name.upper())
}


def object_type(spelling: str) -> ObjectType | None:
    """The type called `contact`, `contacts`, `CONTACT` or `0-1`."""
    return _NAMES.get(spelling)


# name, type, field type, options. Enumerations without options take any value;
# those of owners, pipelines and stages are checked against the portal.
_PROPERTIES = {
    "contact": """
        email string text
        firstname string text
        lastname string text
        phone string phonenumber
        mobilephone string phonenumber
        fax string phonenumber
        jobtitle string text
        company string text
        website string text
        address string text
        city string text
        state string text
        zip string text
        country string text
        hs_language enumeration select
        industry string text
        annualrevenue string text
        numemployees enumeration select
        salutation string text
        date_of_birth string text
        message string textarea
        lifecyclestage enumeration radio subscriber lead marketingqualifiedlead \
            salesqualifiedlead opportunity customer evangelist other
        hs_lead_status enumeration radio NEW OPEN IN_PROGRESS OPEN_DEAL UNQUALIFIED \
            ATTEMPTED_TO_CONTACT CONNECTED BAD_TIMING
        hs_additional_emails enumeration checkbox
    """,
    "company": """
        name string text
        domain string text
        website string text
        phone string phonenumber
        address string text
        address2 string text
        city string text
        state string text
        zip string text
        country string text
        industry enumeration select ACCOUNTING AIRLINES_AVIATION AUTOMOTIVE BANKING \
            BIOTECHNOLOGY CHEMICALS COMPUTER_SOFTWARE COMPUTER_HARDWARE CONSTRUCTION \
            CONSUMER_GOODS EDUCATION_MANAGEMENT FINANCIAL_SERVICES FOOD_BEVERAGES \
            HOSPITAL_HEALTH_CARE HOSPITALITY INFORMATION_TECHNOLOGY_AND_SERVICES INSURANCE \
            INTERNET MACHINERY MANAGEMENT_CONSULTING MARKETING_AND_ADVERTISING OIL_ENERGY \
            PHARMACEUTICALS REAL_ESTATE RETAIL TELECOMMUNICATIONS
        description string textarea
        numberofemployees number number
        annualrevenue number number
        lifecyclestage enumeration radio subscriber lead marketingqualifiedlead \
            salesqualifiedlead opportunity customer evangelist other
        hs_lead_status enumeration radio NEW OPEN IN_PROGRESS OPEN_DEAL UNQUALIFIED \
            ATTEMPTED_TO_CONTACT CONNECTED BAD_TIMING
        type enumeration select PROSPECT PARTNER RESELLER VENDOR OTHER
        linkedin_company_page string text
        founded_year string text
        timezone string text
        hs_additional_domains enumeration checkbox
    """,
    "deal": """
        dealname string text
        amount number number
        closedate datetime date
        dealstage enumeration radio
        pipeline enumeration select
        description string textarea
        deal_currency_code enumeration select
        dealtype enumeration radio newbusiness existingbusiness
        hs_priority enumeration select low medium high
        hs_next_step string text
        closed_won_reason string textarea
        closed_lost_reason string textarea
        hs_forecast_probability number number
        hs_is_closed bool calculation_equation !
        hs_is_closed_won bool calculation_equation !
        hs_deal_stage_probability number number !
    """,
    "ticket": """
        subject string text
        content string textarea
        hs_pipeline enumeration select
        hs_pipeline_stage enumeration radio
        hs_ticket_priority enumeration select LOW MEDIUM HIGH URGENT
        hs_ticket_category enumeration select PRODUCT_ISSUE BILLING_ISSUE FEATURE_REQUEST \
            GENERAL_INQUIRY
    """,
    "note": """
        hs_timestamp datetime date
        hs_note_body string html
        hs_attachment_ids enumeration checkbox
    """,
    "call": """
        hs_timestamp datetime date
        hs_call_title string text
        hs_call_body string html
        hs_call_direction enumeration select INBOUND OUTBOUND
        hs_call_duration number number
        hs_call_status enumeration select BUSY CALLING_CRM_USER CANCELED COMPLETED CONNECTING \
            FAILED IN_PROGRESS NO_ANSWER QUEUED RINGING
        hs_call_disposition string text
        hs_call_from_number string text
        hs_call_to_number string text
        hs_call_recording_url string text
    """,
    "email": """
        hs_timestamp datetime date
        hs_email_direction enumeration select EMAIL INCOMING_EMAIL FORWARDED_EMAIL
        hs_email_status enumeration select BOUNCED FAILED SCHEDULED SENDING SENT
        hs_email_subject string text
        hs_email_text string textarea
        hs_email_html string html
        hs_email_headers string textarea
    """,
    "meeting": """
        hs_timestamp datetime date
        hs_meeting_title string text
        hs_meeting_body string html
        hs_meeting_start_time datetime date
        hs_meeting_end_time datetime date
        hs_meeting_outcome enumeration select SCHEDULED COMPLETED RESCHEDULED NO_SHOW CANCELED
        hs_meeting_location string text
        hs_internal_meeting_notes string html
    """,
    "task": """
        hs_timestamp datetime date
        hs_task_subject string text
        hs_task_body string html
        hs_task_status enumeration select NOT_STARTED IN_PROGRESS WAITING COMPLETED DEFERRED
        hs_task_priority enumeration select NONE LOW MEDIUM HIGH
        hs_task_type enumeration select EMAIL CALL TODO
    """,
}

_COMMON = """
    hubspot_owner_id enumeration select
    hs_object_id number number !
    hs_object_source string text !
    hs_object_source_id string text !
    hs_merged_object_ids enumeration checkbox !
    {created} datetime date !
    {modified} datetime date !
"""


def properties(type: ObjectType) -> dict[str, Json]:
    """The property definitions a fresh portal has for a type."""
    text = _PROPERTIES[type.name].replace("\\\n", " ")
    text += _COMMON.format(created=type.created, modified=type.modified)
    definitions = {}
    for order, line in enumerate(line.split() for line in text.splitlines() if line.strip()):
        name, kind, field, *options = line
        definition = definition_of(
            name=name,
            type=kind,
            field_type=field,
            group=f"{type.name}information",
            options=[] if options == ["!"] else options,
            order=order,
        )
        definition["hubspotDefined"] = True
        definition["hasUniqueValue"] = (type.name, name) == ("contact", "email")
        definition["modificationMetadata"]["readOnlyValue"] = options == ["!"]
        definitions[name] = definition
    return definitions


def definition_of(
    *, name: str, type: str, field_type: str, group: str, options: list[str], order: int = -1
) -> Json:
    """A property definition in the API's own words."""
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "type": type,
        "fieldType": field_type,
        "description": "",
        "groupName": group,
        "options": [
            {"label": value, "value": value, "displayOrder": index, "hidden": False}
            for index, value in enumerate(options)
        ],
        "displayOrder": order,
        "calculated": False,
        "externalOptions": False,
        "hasUniqueValue": False,
        "hidden": False,
        "hubspotDefined": False,
        "formField": True,
        "archived": False,
        "createdAt": CREATED,
        "updatedAt": CREATED,
        "modificationMetadata": {
            "archivable": True,
            "readOnlyDefinition": False,
            "readOnlyValue": False,
        },
    }


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


OWNERS: list[Json] = [
    {
        "id": id,
        "email": email,
        "type": "PERSON",
        "firstName": first,
        "lastName": last,
        "userId": user,
        "userIdIncludingInactive": user,
        "createdAt": CREATED,
        "updatedAt": CREATED,
        "archived": False,
        "teams": [],
    }
    for id, email, first, last, user in (
        ("81001", "grace@syncline.example", "Grace", "Hopper", 901),
        ("81002", "alan@syncline.example", "Alan", "Turing", 902),
    )
]

STAGE_PROPERTIES = {
    "deal": ("pipeline", "dealstage"),
    "ticket": ("hs_pipeline", "hs_pipeline_stage"),
}
LIFECYCLE = (
    *("subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity"),
    *("customer", "evangelist", "other"),
)
