"""A local Salesforce, after https://developer.salesforce.com/docs/platform/api-rest/guide/."""

from sandbox.salesforce import (  # the routes
    changes,
    collections,
    describe,
    limits,
    oauth,
    persons,
    queries,
    sobjects,
)

__all__ = [
    "changes",
    "collections",
    "describe",
    "limits",
    "oauth",
    "persons",
    "queries",
    "sobjects",
]
