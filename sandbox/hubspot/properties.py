"""The properties a fresh portal has for each object type.

https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide
"""

from sandbox.hubspot.defaults import CREATED
from sandbox.hubspot.schema import ObjectType
from sandbox.wire import Json

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
        hs_body_preview string text !
        hs_attachment_ids enumeration checkbox
    """,
    "call": """
        hs_timestamp datetime date
        hs_call_title string text
        hs_call_body string html
        hs_body_preview string text !
        hs_call_direction enumeration select INBOUND OUTBOUND
        hs_call_duration number number
        hs_call_status enumeration select BUSY CALLING_CRM_USER CANCELED COMPLETED CONNECTING \
            FAILED IN_PROGRESS NO_ANSWER QUEUED RINGING
        hs_call_disposition enumeration select 9d9162e7-6cf3-4944-bf63-4dff82258764 \
            f240bbac-87c9-4f6e-bf70-924b57d47db7 a4c4c377-d246-4b32-a13b-75a56a4cd0ff \
            b2cf5968-551e-4856-9783-52b3da59a7d0 73a0d17f-1163-4015-bdd5-ec830791da20 \
            17b47fee-58de-441e-a44c-c6300d46f273
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
        hs_body_preview string text !
        hs_email_headers string textarea
        hs_email_from_email string text !
        hs_email_from_firstname string text !
        hs_email_from_lastname string text !
        hs_email_to_email string text !
        hs_email_cc_email string text !
        hs_email_bcc_email string text !
    """,
    "meeting": """
        hs_timestamp datetime date
        hs_meeting_title string text
        hs_meeting_body string html
        hs_body_preview string text !
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
        hs_body_preview string text !
        hs_task_status enumeration select NOT_STARTED IN_PROGRESS WAITING COMPLETED DEFERRED
        hs_task_priority enumeration select NONE LOW MEDIUM HIGH
        hs_task_type enumeration select EMAIL CALL TODO
        hs_task_is_completed number number !
        hs_task_completion_date datetime date !
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
# Their options are the owners and the stages: the definition shows none.
_ELSEWHERE = ("hubspot_owner_id", "dealstage", "pipeline", "hs_pipeline", "hs_pipeline_stage")


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
        definition["calculated"] = field == "calculation_equation"
        definition["externalOptions"] = name in _ELSEWHERE
        definition["hasUniqueValue"] = (type.name, name) == ("contact", "email")
        definition["modificationMetadata"] = {
            "archivable": False,
            "readOnlyDefinition": True,
            "readOnlyOptions": kind != "enumeration" or name in _ELSEWHERE or options == ["!"],
            "readOnlyValue": options == ["!"],
        }
        definitions[name] = definition
    return definitions


def group_of(name: str, label: str, order: int) -> Json:
    """A group of properties in the API's own words."""
    return {"name": name, "label": label, "displayOrder": order, "archived": False}


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
            "readOnlyOptions": False,
            "readOnlyValue": False,
        },
    }
