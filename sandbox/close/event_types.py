"""What can happen in Close, by object type.

https://developer.close.com/api/resources/events/list-of-event-types
"""

_CHANGES = {"created", "updated", "deleted"}
_RUNS = {"created", "updated", "completed"}

TASKS = tuple(
    f"task.{kind}"
    for kind in (
        *("lead", "incoming_email", "email_followup", "missed_call", "answered_detached_call"),
        *("voicemail", "opportunity_due", "incoming_sms", "outgoing_call"),
    )
)

ACTIONS: dict[str, set[str]] = {
    "lead": {*_CHANGES, "merged"},
    **dict.fromkeys(("contact", "opportunity", "lead_merge"), _CHANGES),
    **{type: {*_CHANGES, "completed"} for type in TASKS},
    **{
        f"activity.{kind}": {*_CHANGES, *more}
        for kind, more in {
            "email": ("sent",),
            "email_thread": (),
            "call": ("answered", "completed"),
            "sms": ("sent",),
            "whatsapp_message": (),
            "note": (),
            "meeting": ("scheduled", "started", "completed", "canceled"),
            "form_submission": (),
            "lead_status_change": (),
            "opportunity_status_change": (),
            "custom_activity": (),
        }.items()
    },
    "activity.task_completed": {"created", "deleted"},
    "unsubscribed_email": {"created", "deleted"},
    "import": {*_RUNS, "reverting", "reverted"},
    "export.lead": _RUNS,
    "export.opportunity": _RUNS,
    **{
        f"bulk_action.{kind}": {*_RUNS, "paused"}
        for kind in ("delete", "edit", "email", "sequence_subscription")
    },
    **{
        f"custom_fields.{kind}": _CHANGES
        for kind in ("lead", "contact", "opportunity", "activity", "custom_object", "shared")
    },
    "membership": {"activated", "deactivated"},
    **dict.fromkeys(
        (
            *("custom_activity_type", "custom_object_type", "custom_object"),
            *("status.lead", "status.opportunity", "group", "saved_search", "phone_number"),
            *("email_template", "sms_template", "sequence", "sequence_subscription"),
            *("comment", "comment_thread"),
        ),
        _CHANGES,
    ),
}
