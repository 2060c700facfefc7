"""Contacts of Close as HubSpot takes them, for the peers of a resync."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import httpx

PAGE = 100


async def contacts() -> AsyncIterator[list[dict[str, Any]]]:
    """All contacts of Close, page by page."""
    auth = (os.environ["BENCH_CLOSE_KEY"], "")
    async with httpx.AsyncClient(
        base_url=os.environ["BENCH_CLOSE"], auth=auth, timeout=60
    ) as close:
        skip = 0
        while True:
            answer = await close.get("/contact/", params={"_limit": PAGE, "_skip": skip})
            page = answer.raise_for_status().json()
            yield page["data"]
            skip += len(page["data"])
            if not page["has_more"]:
                return


def hubspot() -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {os.environ['BENCH_HUBSPOT_TOKEN']}"}
    return httpx.AsyncClient(base_url=os.environ["BENCH_HUBSPOT"], headers=headers, timeout=60)


def fields(contact: dict[str, Any]) -> dict[str, str]:
    """Its properties in HubSpot."""
    first, _, last = contact["name"].partition(" ")
    return {
        "email": contact["emails"][0]["email"],
        "firstname": first,
        "lastname": last,
        "jobtitle": contact["title"] or "",
    }
