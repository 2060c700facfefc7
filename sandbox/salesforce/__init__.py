"""A local Salesforce, after https://developer.salesforce.com/docs/platform/api-rest/guide/."""

from sandbox.salesforce import (  # the routes
    changes,
    collections,
    composite,
    describe,
    jobs,
    limits,
    oauth,
    persons,
    queries,
    setup,
    sobjects,
)

__all__ = [
    "changes",
    "collections",
    "composite",
    "describe",
    "jobs",
    "limits",
    "oauth",
    "persons",
    "queries",
    "setup",
    "sobjects",
]
