"""The plots and tables of docs/performance.md, from the JSON lines of measurements.

./dev figures bench/results/2026-12-01.jsonl
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.ingest import TITLES
from bench.machine import ROOT

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "img"
OURS, THEIRS, THIRD = "#2563eb", "#9ca3af", "#f59e0b"
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and sharp at any size
    "svg.hashsalt": "syncline",  # the same figures make the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
}

TIMES = ("p50_ms", "p99_ms")

Found = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.figures", description=__doc__)
    parser.add_argument("file", type=Path, help="what `bench --json FILE` wrote")
    given = parser.parse_args(arguments)
    lines = [json.loads(line) for line in given.file.read_text().splitlines()]
    mpl.rcParams.update(STYLE)
    page = PAGE.read_text()
    for name, tell in SECTIONS.items():
        if measured := [line for line in lines if line["bench"] == name]:
            page = _replaced(page, name, tell(measured))
    page = _replaced(page, "machine", _machine(lines))
    PAGE.write_text(page)


def _replaced(page: str, name: str, text: str) -> str:
    """The page with this between the marks of a section."""
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert marks.search(page), f"docs/performance.md has no section {name}"
    return marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _figure(name: str, alt: str, draw: Callable[[Axes], None], *, height: float = 2.4) -> str:
    """Draw into docs/img; the words that show it."""
    figure, axes = plt.subplots(figsize=(7, height))
    draw(axes)
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    return f"![{alt}](img/{name}.svg)"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


# ---------------------------------------------------------------------------------- the sections


def _ingest(lines: Sequence[Found]) -> str:
    found = lines[-1]
    parts = []
    if "closed" in found:
        peers = found["closed"]["close"]

        def draw(axes: Axes) -> None:
            names = list(reversed(peers))
            rates = [peers[name]["per_second"] for name in names]
            bars = axes.barh(
                [TITLES[name] for name in names],
                rates,
                color=[OURS if name == "ours" else THEIRS for name in names],
            )
            axes.bar_label(bars, [f" {rate:,.0f}" for rate in rates])
            axes.set_xlabel("accepted webhooks per second")
            axes.margins(x=0.1)

        alt = "Accepted webhooks per second, ours and others"
        parts.append(_figure("ingest", alt, draw))
        headings = ("", "requests/s", "p50 ms", "p99 ms", "CPU µs each", "database µs", "ours ×")
        for account, everybody in found["closed"].items():
            rows = [
                (
                    TITLES[name],
                    *(
                        _number(peer[what])
                        for what in ("per_second", "p50_ms", "p99_ms", "cpu_us", "database_us")
                    ),
                    f"{peer['ours_times']:.2f}",
                )
                for name, peer in everybody.items()
            ]
            title = f"As {account.title().replace('spot', 'Spot')} signs, {found['bytes']} bytes, "
            parts.append(f"{title}{found['connections']} connections:\n\n{_table(headings, rows)}")
    if "batches" in found:
        rows = [
            (TITLES[name], _number(peer["events_per_second"]), _number(peer["p99_ms"]))
            for name, peer in found["batches"].items()
        ]
        parts.append(
            "HubSpot's batches of 100 events:\n\n" + _table(("", "events/s", "p99 ms"), rows)
        )
    if "open" in found:
        rows = [
            (f"{TITLES[name]}, {rate} a second", *(_number(peer[p]) for p in TIMES))
            for rate, each in found["open"].items()
            for name, peer in each.items()
        ]
        rows += [
            (
                f"Syncline, {rate} a second, its worker busy",
                *map(_number, (o["p50_ms"], o["p99_ms"])),
            )
            for rate, o in found["busy"].items()
        ]
        parts.append("How long a sender waits at a steady rate:")
        parts.append(
            _figure("wait", "The p99 of a sender's wait by posts per second", _waits(found))
        )
        parts.append(_table(("", "p50 ms", "p99 ms"), rows))
    return "\n\n".join(parts)


def _waits(found: Found) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        rates = list(found["open"])
        by_name = {
            "Syncline": [found["open"][rate]["ours"] for rate in rates],
            "Syncline, its worker busy": [found["busy"][rate] for rate in rates],
            TITLES["plain"]: [found["open"][rate]["plain"] for rate in rates],
        }
        for (name, each), colour in zip(by_name.items(), (OURS, THIRD, THEIRS), strict=True):
            axes.plot(rates, [one["p99_ms"] for one in each], "o-", color=colour, label=name)
        axes.set_xlabel("posts per second")
        axes.set_ylabel("p99, ms")
        axes.set_yscale("log")
        axes.legend(frameon=False)

    return draw


def _resync(lines: Sequence[Found]) -> str:
    lines = sorted(lines, key=lambda line: int(line["contacts"]))
    told = next((line for line in reversed(lines) if line["peers"]), lines[-1])

    def draw(axes: Axes) -> None:
        rates = {f"Syncline, {name}": run for name, run in told["ours"].items()}
        rates |= {_PEER_RUNS.get(name, name): run for name, run in told["peers"].items()}
        names = list(reversed(rates))
        colours = [OURS if name.startswith("Syncline") else THEIRS for name in names]
        bars = axes.barh(names, [rates[name]["per_second"] for name in names], color=colours)
        axes.bar_label(bars, [f" {rates[name]['per_second']:,}" for name in names])
        axes.set_xlabel("contacts per second")
        axes.margins(x=0.1)

    parts = [_figure("resync", "Contacts per second in a resync, ours and others", draw)]
    headings = (
        *("", "contacts/s", "of one core of worker", "of all our CPU", "calls each"),
        *("worker MiB", "API MiB"),
    )
    rows = [
        (
            f"{line['contacts']:,} contacts, {name}",
            _number(run["per_second"]),
            _number(run["per_core_second"]["worker"]),
            _number(run["per_core_second"]["ours"]),
            f"{run['hubspot_calls_per_record']:.3f}",
            *(_number(run["peak_mib"][part]) for part in ("worker", "api")),
        )
        for line in lines
        for name, run in line["ours"].items()
    ]
    rows += [
        (
            f"{told['peer_contacts']:,} contacts, {_PEER_RUNS.get(name, name)}",
            _number(run["per_second"]),
            "–",
            _number(run["per_core_second"]["ours"]),
            f"{run['hubspot_calls_per_record']:.3f}",
            _number(run["peak_mib"]["peer"]),
            "–",
        )
        for name, run in told["peers"].items()
    ]
    return "\n\n".join([*parts, _table(headings, rows)])


_PEER_RUNS = {
    "each, created": "search and write each, created",
    "each, updated": "search and write each, known",
    "bare, created": "batches, nothing remembered",
}


def _live(lines: Sequence[Found]) -> str:
    lines = sorted(lines, key=lambda line: float(line["rate"]))

    def draw(axes: Axes) -> None:
        rates = [line["rate"] for line in lines]
        for what, colour in (("p50_ms", OURS), ("p95_ms", THIRD)):
            axes.plot(
                rates, [line["idle"][what] for line in lines], "o-", color=colour, label=what[:3]
            )
        axes.set_xlabel("edits per second")
        axes.set_ylabel("ms until it stands in HubSpot")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)

    weathers = {
        "idle": "{rate:g} edits a second",
        "burst": "{changes:,} edits at once",
        "backfill": "{rate:g} edits a second, {backlog:,} contacts back-filled",
    }
    rows = []
    for line in lines:
        for name, title in weathers.items():
            if one := line.get(name):
                each = one["calls_per_change"] if name != "backfill" else {}
                calls = f"{each['hubspot']:.2f}" if "hubspot" in each else "–"
                times = (_number(one[what]) for what in ("p50_ms", "p95_ms", "max_ms"))
                rows.append(
                    (title.format(**{**line, **one}), *times, calls, one["unchanged_writes"])
                )
    headings = ("", "p50 ms", "p95 ms", "most ms", "HubSpot calls each", "writes of no change")
    figure = _figure("live", "Milliseconds from an edit in Close to its value in HubSpot", draw)
    return f"{figure}\n\n{_table(headings, rows)}"


def _firstload(lines: Sequence[Found]) -> str:
    headings = (
        *("", "minutes", "records/s", "MiB of API + worker", "calls each, HubSpot / Salesforce"),
        "pages read again",
    )
    rows = [
        (
            ", ".join(f"{line[name]:,} {name}" for name in ("contacts", "companies", "deals"))
            + (f"; killed {line['kills']} times" if line["kills"] else ""),
            f"{line['seconds'] / 60:.1f}",
            _number(line["per_second"]),
            _number(line["peak_mib_together"]),
            " / ".join(f"{n:.3f}" for n in line["calls_per_record"].values()),
            "–" if line["repeated_pages"] is None else line["repeated_pages"],
        )
        for line in lines
    ]
    return _table(headings, rows)


def _grown(lines: Sequence[Found]) -> str:
    sizes = lines[-1]["sizes"]

    def draw(axes: Axes) -> None:
        for part, colour in (("inbox", OURS), ("reconcile", THIRD)):
            rows, ratios = zip(*((s["rows"], s[part]["ratio"]) for s in sizes), strict=True)
            axes.plot(rows, ratios, "o-", color=colour, label=part)
        axes.axhline(1.2, color=THEIRS, linestyle=":", label="aim")
        axes.set_xscale("log")
        axes.set_xlabel("rows stored in each table")
        axes.set_ylabel("times what it costs when empty")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)

    headings = ("", "nearly empty, ms", "so full, ms", "ratio")
    rows = [
        (
            f"{part}, {size['rows']:,} rows",
            *(f"{size[part][what]:.2f}" for what in ("few_ms", "many_ms", "ratio")),
        )
        for size in sizes
        for part in ("inbox", "reconcile")
    ]
    figure = _figure("growth", "Cost of an event by the rows that are stored already", draw)
    return f"{figure}\n\n{_table(headings, rows)}"


def _machine(lines: Sequence[Found]) -> str:
    last = lines[-1]
    versions = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    days = sorted({line["at"][:10] for line in lines})
    loads = sorted(line["load"] for line in lines)
    busy = (
        " **Others kept the machine busy: rates are lower and waits longer than they need be.**"
        if loads[-1] > last["cores"] + 1
        else ""
    )
    return (
        f"Measured {' and '.join(dict.fromkeys((days[0], days[-1])))} on {last['cores']} cores of"
        f" {last['processor']} ({last['system']}), Python {last['python']}, {versions}; commits"
        f" {', '.join(sorted({str(line['commit']) for line in lines}))}; load of the machine when"
        f" each began {loads[0]} to {loads[-1]}.{busy}"
    )


SECTIONS: dict[str, Callable[[Sequence[Found]], str]] = {
    "ingest": _ingest,
    "resync": _resync,
    "live": _live,
    "firstload": _firstload,
    "grown": _grown,
}


if __name__ == "__main__":
    main()
