"""The words in which Salesforce refuses: a list of problems with their codes.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
"""

from typing import Any

from sandbox.wire import Answer, Json, RefusedError


def problem(code: str, text: str, *fields: str, **more: Any) -> Json:
    """One problem with a row of data."""
    return {"message": text, "errorCode": code, "fields": list(fields), **more}


def refuse(code: str, text: str, *, status: int = 400) -> RefusedError:
    """A request that cannot be understood or is not allowed."""
    return RefusedError(Answer(status, [{"message": text, "errorCode": code}]))


def invalid(code: str, text: str, *fields: str, status: int = 400, **more: Any) -> RefusedError:
    """A row of data that cannot be saved."""
    return RefusedError(Answer(status, [problem(code, text, *fields, **more)]))


def missing(text: str = "The requested resource does not exist") -> RefusedError:
    return refuse("NOT_FOUND", text, status=404)


def fate(refusal: RefusedError) -> Json:
    """How a refused row looks among the results of many: `statusCode`, not `errorCode`.

    Which records a duplicate rule took it for is told of a single row only:
    https://github.com/jetstreamapp/jetstream/issues/482
    """
    errors = [
        {
            "statusCode": row["errorCode"],
            "message": row["message"],
            "fields": row.get("fields", []),
        }
        for row in refusal.answer.body
    ]
    return {"success": False, "errors": errors}
