"""The ceiling of a resync: pages are read and written in batches of 100; nothing is remembered."""

from __future__ import annotations

from fastapi import FastAPI

from bench.peers.contacts import contacts, fields, hubspot

BATCH = 100
app = FastAPI()


@app.post("/resync")
async def resync() -> dict[str, int]:
    done = 0
    async with hubspot() as client:
        async for page in contacts():
            rows = [{"properties": fields(contact)} for contact in page]
            for start in range(0, len(rows), BATCH):
                batch = {"inputs": rows[start : start + BATCH]}
                written = await client.post("/crm/v3/objects/contacts/batch/create", json=batch)
                done += len(written.raise_for_status().json()["results"])
    return {"done": done}
