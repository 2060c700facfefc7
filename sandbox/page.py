"""The page at `/`: companies, people and deals of every vendor, side by side."""

from html import escape

from sandbox.wire import Table

SHOWN = 100

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="2"><title>Sandbox CRMs</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root { color-scheme: light dark; --line: #8883; --soft: #8882; --dim: #888; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1700px;
  padding: 0 1rem }
h1 { font-size: 1.3rem; margin: 0 0 .2rem } h2 { font-size: 1.15rem; margin: 0 0 .6rem }
h3 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; color: var(--dim);
  margin: 1.3rem 0 .3rem } p { color: var(--dim); margin: 0 0 1.5rem }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 1.5rem }
section { border: 1px solid var(--line); border-radius: 12px; padding: 1.2rem; min-width: 0 }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
td, th { text-align: left; padding: .3rem .5rem .3rem 0; border-top: 1px solid var(--soft);
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
th { font-weight: 500; color: var(--dim); border: 0; font-size: .85rem }
</style></head><body><h1>Sandbox CRMs</h1>
<p>Local CRMs, newest records first. Refreshes every two seconds.</p><main>"""


def render(vendors: dict[str, dict[str, Table]]) -> bytes:
    """The whole page; the rows of a table have the same columns."""
    sections = [
        f"<section><h2>{escape(_title(name))}</h2>"
        + "".join(_table(title, table) for title, table in tables.items())
        + "</section>"
        for name, tables in vendors.items()
    ]
    return (_HEAD + "".join(sections) + "</main></body></html>").encode()


def _title(name: str) -> str:
    return {"hubspot": "HubSpot"}.get(name, name.capitalize())


def _table(title: str, table: Table) -> str:
    heading = f"<h3>{escape(title)} · {table.count}</h3>"
    if not table.rows:
        return heading
    head = "".join(f"<th>{escape(column)}</th>" for column in table.rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(v or ''))}</td>" for v in row.values()) + "</tr>"
        for row in table.rows
    )
    return f"{heading}<table><tr>{head}</tr>{body}</table>"
