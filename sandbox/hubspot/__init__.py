"""A local HubSpot, after https://developers.hubspot.com/docs/api-reference/latest/overview."""

from sandbox.hubspot import (  # the routes
    associations,
    batches,
    definitions,
    deletions,
    labels,
    limits,
    merges,
    objects,
    owners,
    pipelines,
    search,
    subscriptions,
)

__all__ = [
    "associations",
    "batches",
    "definitions",
    "deletions",
    "labels",
    "limits",
    "merges",
    "objects",
    "owners",
    "pipelines",
    "search",
    "subscriptions",
]
