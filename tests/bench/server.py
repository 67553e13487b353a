"""What the server holds: a large store, many clients at once, and memory over many captures.

    python tests/bench/server.py                       # store and load, about ten minutes on two cores
    python tests/bench/server.py --only load --seconds 20
    python tests/bench/server.py --only soak --captures 50000

*store*: 1,000 runs of 1,000 snapshots. One of them is written by the real writer, with its arrays; the others are rows
of the index that look like its rows. *load*: a real server process (encoder ``planted``, so that the encoder is no part
of it; detector and all else as always) and simulated clients in one other process; what is acknowledged is committed,
so what is counted is on the disk. *soak*: resident memory of the server along the way. Every acknowledged row and
capture is looked for in the store afterwards. Clients and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import server_load
import server_store

from cm_server.stores.reader import StoreReader

WIDE = [f"metric/{'x' * 88}/{n}" for n in range(9)]
"""One row of nine values under long names: 1 KiB."""
PLAIN = ["loss", "accuracy", "lr"]
"""Three values a row, 16 rows to the KiB."""


def main() -> int:
    """Runs the chosen parts."""
    options = _parse()
    rows = []
    with tempfile.TemporaryDirectory(prefix="cm-bench-", dir=options.folder) as folder:
        for name in options.only:
            place = Path(folder) / name
            place.mkdir()
            for row in PARTS[name](place, options):
                rows.append(row)
                if not options.json:
                    print(_line(row), flush=True)
    if options.json:
        print(json.dumps({"machine": server_load.machine(), "rows": rows}, indent=2))
    else:
        print(f"on {server_load.machine()}")
    return 0


def store_part(place: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Opening and reading a large store."""
    store = place / "store"
    empty = server_store.start(place / "empty" / "store")
    server_store.build(store, options.runs, options.snapshots, options.units)
    yield from server_store.measure(store, options.units)
    full = server_store.start(store)
    note = f"{full:.2f} s; of an empty store {empty:.2f} s"
    yield _row("start of a server: what the store adds", full - empty, "s", note, "< 3 s", full - empty < 3)


def load_part(place: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Many clients at once."""
    shapes = {"1 row of 9 values, long names": (1, WIDE), "16 rows of 3 values": (16, PLAIN)}
    for what, (rows, names) in shapes.items():
        with server_load.server(place / what.replace(" ", "-")) as process:
            store = place / what.replace(" ", "-") / "store"
            found = server_load.figures(store, process, options.clients, options.seconds, rows, names)
        lost = _lost_rows(store, found["sent"], names)
        note = f"{found['values']:,.0f} values/s, {found['bytes']} bytes each, {lost} rows lost or twice; "
        note += f"the server's CPU time {found['cpu'] * 1e6:,.0f} µs each"
        met = found["messages"] >= 10_000 and not lost
        yield _row(f"messages of figures acknowledged: {what}", found["messages"], "/s", note, "≥ 10,000 /s", met)
    for probes, units in ((64, 256), (256, 1024)):
        with server_load.server(place / f"{probes}x{units}") as process:
            store = place / f"{probes}x{units}" / "store"
            found = server_load.captures(store, process, options.clients, options.seconds, probes, units)
        yield from _capture_rows(store, found, f"captures of {probes} images × {units} units")


def _capture_rows(store: Path, found: dict[str, Any], what: str) -> Iterator[dict[str, Any]]:
    committed = _committed(store, found["numbers"])
    refused = len(found["lost"])
    missing = sum(found["numbers"].values()) - len(committed) - refused
    note = f"{found['captures']:.1f} captures/s of {found['chunks']} × 64 KiB; {missing} missing, {refused} refused"
    note += f"; the server's CPU time {found['cpu'] * 1e3:.1f} ms a capture"
    met = found["messages"] >= 1000 and not missing and not refused
    yield _row(f"64 KiB messages acknowledged: {what}", found["messages"], "/s", note, "≥ 1,000 /s", met)
    warm = np.array([late for number, late in committed if number])
    for name, seconds in (("committed", warm), ("acknowledged", found["late"])):
        half, most = np.percentile(seconds, [50, 99]) * 1e3
        note = f"p99 {most:,.0f} ms, of {len(seconds)}"
        yield _row(f"  from capture to {name}, p50", half, "ms", note)


def soak_part(place: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Memory over many captures."""
    show = lambda done, rss: print(f"  {done:>7,} captures  {rss / 1e6:.1f} MB", file=sys.stderr, flush=True)  # noqa: E731
    with server_load.server(place) as process:
        memory = np.array(server_load.soak(place / "store", process, options.clients, options.captures, show))
    warm = memory[memory[:, 0] >= options.captures * 0.2]
    slope = float(np.polyfit(warm[:, 0], warm[:, 1], 1)[0])
    first, settled, last = (value / 1e6 for value in (memory[0, 1], warm[0, 1], memory[-1, 1]))
    note = f"{first:.0f} MB at first, {settled:.0f} MB after a fifth, {last:.0f} MB at the end"
    what = f"memory a capture, over the last four fifths of {options.captures:,}"
    yield _row(what, slope, "bytes", note, "< 200 bytes", slope < 200)


def _lost_rows(store: Path, sent: dict[str, int], names: list[str]) -> int:
    """Rows that were acknowledged and are not in the store, or are there twice."""
    wrong = 0
    with closing(StoreReader(store)) as reader:
        for run, count in sent.items():
            found = reader.scalars(run)[0]
            for name in names:
                steps = found[name].steps
                wrong += abs(len(steps) - count) + len(steps) - len(np.unique(steps))
    return wrong


def _committed(store: Path, numbers: dict[str, int]) -> list[tuple[int, float]]:
    """Number and seconds from capture to commit of every snapshot; number 0 of each run warms up."""
    with closing(StoreReader(store)) as reader:
        found = [s for run in numbers for s in reader.snapshots(run)]
    assert len({(s.run, s.capture) for s in found}) == len(found), "a capture is there twice"
    return [(s.capture, s.committed_at - s.captured_at) for s in found]


PARTS = {"store": store_part, "load": load_part, "soak": soak_part}


def _row(
    what: str, value: float, unit: str, note: str, target: str | None = None, met: bool | None = None
) -> dict[str, Any]:
    aim = {"target": target, "met": met} if target else {}
    return {"what": what, "value": value, "unit": unit, "note": note} | aim


def _line(row: dict[str, Any]) -> str:
    met = {True: "met", False: "NOT MET", None: ""}[row.get("met")]
    target = f"  ({row['target']}: {met})" if "target" in row else ""
    return f"{row['what']:<66} {row['value']:>11,.4g} {row['unit']:<6}{target}  {row.get('note', '')}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=["store", "load"])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--snapshots", type=int, default=1000)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load")
    parser.add_argument("--captures", type=int, default=50_000, help="of the soak")
    parser.add_argument("--folder", help="where stores are made; needs about 3 GB")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
