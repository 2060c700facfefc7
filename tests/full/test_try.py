import json, time
from tests.full.harness import World

async def test_x(world: World):
    c, h = world.close, world.hubspot
    st = await c.statuses()
    t=time.time()
    lead = await c.create("lead", name="Analytical", url="https://analytical.example", description="d",
      contacts=[{"name":"Ada Lovelace","title":"CTO","emails":[{"email":"Ada@Analytical.example","type":"office"}],"phones":[{"phone":"+1 415 555 0199","type":"office"}]},
      {"name":"Charles Babbage","emails":[{"email":"cb@analytical.example","type":"office"}]}])
    o = await c.create("opportunity", lead_id=lead["id"], value=123456, status_id=st["Qualified"], note="n", date_won="2026-12-01", confidence=60)
    await world.quiet()
    print(time.time()-t)
    for ty in ("companies","contacts","deals"):
        for r in await h.all(ty):
            print(ty, {k:v for k,v in r.items() if v})
            for e in ("companies","contacts","deals"):
                if e!=ty: print("   ", e, await h.links(ty, r["id"], e))
    print(await world.crms.writes())
    print(json.dumps(await world.syncline.dead_letters(), indent=1))
    await world.steady()
    print(time.time()-t)
