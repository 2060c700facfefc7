"""HubSpot's refusals.

https://developers.hubspot.com/docs/api-reference/error-handling
"""

from typing import Any
from uuid import uuid4

from sandbox.wire import Answer, Json, RefusedError


def refuse(status: int, category: str, message: str, **more: Any) -> RefusedError:
    """A refusal with HubSpot's body: status, message, correlationId, category."""
    return RefusedError(Answer(status, error(category, message, **more)))


def error(category: str, message: str, **more: Any) -> Json:
    return {
        "status": "error",
        "message": message,
        "correlationId": str(uuid4()),
        "category": category,
        **more,
    }


def invalid(message: str, *errors: Json) -> RefusedError:
    """A 400 VALIDATION_ERROR; `errors` come from `problem`."""
    more = {"errors": list(errors)} if errors else {}
    return refuse(400, "VALIDATION_ERROR", message, **more)


def problem(code: str, name: str, message: str) -> Json:
    """One bad property."""
    return {"message": message, "code": code, "context": {"propertyName": [name]}}


def missing(id: str = "") -> RefusedError:
    context = {"context": {"id": [id]}} if id else {}
    return refuse(404, "OBJECT_NOT_FOUND", "resource not found", **context)
