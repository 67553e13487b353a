"""The System page's parts: server, store, runs, gaps, versions and fingerprints, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dash import dcc, html

from cm_server.report import Gap
from cm_server.version import VERSION
from dashboard import view as where
from dashboard.components.age import age
from dashboard.components.aria import aria
from dashboard.figures.stages import SEND, WAIT
from dashboard.health import RunHealth, ServerHealth, StoreHealth
from dashboard.view import View

QUIET_SECONDS = 4.0
"""A server publishes every second: after this long it is silent."""
LOW_BYTES = 2 * 2**30
NO_SERVER = "No server has ever written to this store. Start one: concept-monitor up"
NO_RUNS = "No run in this store yet."
NO_GAPS = "No gap: every capture that was announced became a snapshot."


def server_sentence(server: ServerHealth, silence: float | None, now: float) -> list:
    """Whether the server is there, honestly: by its process and by its heartbeat.

    Args:
        server: what it wrote about itself.
        silence: seconds since this dashboard heard it; None: never.
        now: seconds since 1970.
    """
    if not server.known:
        return _said("gone", NO_SERVER)
    heard = silence is not None and silence <= QUIET_SECONDS
    since = age(max(0.0, now - server.started)).removesuffix(" ago")
    if heard:
        return _said("live", f"The server is up, since {since}, and was heard {silence:.1f} s ago.")
    if not server.alive:
        last = "" if silence is None else f" It was last heard {age(silence)}."
        text = (
            f"The server is gone: process {server.pid} does not run on this machine.{last} Training goes on without it "
            "and keeps what it would have sent; start it again with concept-monitor up."
        )
        return _said("gone", text)
    quiet = (
        "was never heard by this dashboard"
        if silence is None
        else f"has been silent for {age(silence).removesuffix(' ago')}"
    )
    return _said(
        "stale",
        f"Process {server.pid} lives but {quiet}: it is just starting, hangs, or publishes at another address than "
        f"{server.events or 'the one it wrote'}.",
    )


def _said(state: str, text: str) -> list:
    return [html.Span("", className=f"lamp {state}", **aria(hidden="true")), html.Span(text)]


def server_facts(server: ServerHealth, store: StoreHealth):
    """Addresses, versions and the store's size."""
    other = server.version and server.version != VERSION
    rows = [
        ("started", _moment(server.started) if server.started else "–"),
        ("process", str(server.pid) if server.pid else "–"),
        ("training processes connect to", server.ingest or "–"),
        ("dashboards listen at", server.events or "–"),
        ("server version", (server.version or "–") + (f" (this dashboard: {VERSION}; update one)" if other else "")),
        ("store", store.directory),
        ("schema version", str(store.schema)),
        ("arrays, index", f"{in_bytes(store.arrays)}, {store.database or in_bytes(store.index)}"),
        ("free on its disk", in_bytes(store.free) + (" — nearly full" if 0 < store.free < LOW_BYTES else "")),
    ]
    return facts(rows)


def facts(rows: Sequence[tuple[str, str]]):
    """Names and values."""
    return html.Dl([part for name, value in rows for part in (html.Dt(name), html.Dd(value))], className="facts")


def runs_table(runs: Sequence[RunHealth], others: int, now: float) -> list:
    """One row per run: what its client and the store say."""
    if not runs:
        return [html.P(NO_RUNS, className="quiet")]
    head = (
        ("run", ""),
        ("state", ""),
        ("last news", ""),
        ("snapshots", "in the store"),
        ("gaps", "captures that did not become snapshots"),
        ("overhead", "share of the training time, by the client's own measure"),
        ("sent", "captures sent, and their bytes"),
        ("waiting", "captures sent or queued and not acknowledged yet"),
        ("dropped", "captures dropped by the client, and scalars"),
        ("behind", "median seconds from capture to commit, newest snapshots"),
        ("analysis", "median seconds of analysis, newest snapshots"),
    )
    cells = [html.Th(name, title=title, scope="col") for name, title in head]
    table = html.Table(
        [html.Thead(html.Tr(cells)), html.Tbody([_row(run, now) for run in runs])], className="numbers system-runs"
    )
    more = [html.P(f"and {others:,} older runs, not shown.", className="quiet")] if others > 0 else []
    return [html.Div(table, className="table-frame"), *more, *_troubles(runs)]


def _row(run: RunHealth, now: float):
    info, stages = run.info, run.stages
    link = dcc.Link(info.name, href=where.url(View(info.run, "overview")))
    gaps = len(run.data.gaps)
    analysis = sum(value for name, value in stages.items() if name not in (SEND, WAIT))
    values = [
        html.Span(info.state, className=f"dot {info.state}"),
        age(max(0.0, now - info.updated)),
        f"{len(run.data.longest()):,}",
        html.Span(f"{gaps:,}", className="worse" if gaps else ""),
        _overhead(run),
        _sent(run),
        _count(run.stat("captures_unacked")),
        _dropped(run),
        f"{sum(stages.values()):.2f} s" if stages else "–",
        f"{analysis:.3f} s" if stages else "–",
    ]
    return html.Tr([html.Th(link, scope="row"), *[html.Td(value) for value in values]])


def _overhead(run: RunHealth) -> str:
    share, budget = run.stat("overhead_share"), run.stat("budget")
    if share is None:
        return "–"
    return f"{100 * share:.2g} %" + (f" of {100 * budget:g} %" if budget is not None else "")


def _sent(run: RunHealth) -> str:
    sent, size = run.stat("captures_sent"), run.stat("bytes_sent")
    return _count(sent) + (f", {in_bytes(size)}" if size is not None else "")


def _dropped(run: RunHealth):
    captures, scalars = run.stat("captures_dropped"), run.stat("scalars_dropped")
    lost = bool(captures or scalars)
    text = "–" if captures is None else f"{captures:,.0f}" + (f" + {scalars:,.0f} scalars" if scalars else "")
    return html.Span(text, className="worse" if lost else "")


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _troubles(runs: Sequence[RunHealth]) -> list:
    """What a client or the server says went wrong, and where unsent data lies."""
    said = []
    for run in runs:
        error, spool, unsent = run.info.stats.get("error"), run.info.stats.get("spool"), run.stat("captures_unacked")
        if error:
            said.append(f"{run.info.name}: its client said: {error}")
        if run.info.activity:
            said.append(f"{run.info.name}: the server is busy with: {run.info.activity}")
        if spool and unsent and run.info.state not in ("running", "waiting"):
            said.append(
                f"{run.info.name}: {unsent:,.0f} captures may still lie in {spool} on its machine: concept-monitor sync"
            )
    return [html.Ul([html.Li(text) for text in said], className="plain-list troubles")] if said else []


def gaps_list(gaps: Sequence[Gap], names: Mapping[str, str], now: float) -> list:
    """The newest gaps, with their reasons."""
    if not gaps:
        return [html.P(NO_GAPS, className="quiet")]
    items = [
        html.Li(
            [
                dcc.Link(
                    names.get(gap.run, gap.run), href=where.url(View(gap.run, "overview", None, max(0, gap.step)))
                ),
                f" step {gap.step:,}, {age(max(0.0, now - gap.time))}: ",
                html.Span(gap.reason, className="reason"),
            ]
        )
        for gap in gaps
    ]
    return [html.Ul(items, className="plain-list")]


def stages_sentence(run: RunHealth | None) -> str:
    """The stage times in words."""
    if run is None or not run.recent:
        return "No snapshot yet, so no time was spent on one."
    said = ", ".join(f"{name} {value:.3f} s" for name, value in run.stages.items())
    newest = f"Median of the newest {len(run.recent):,} snapshots of {run.info.name}"
    return f"{newest}: {said}. Two clocks: the client's and the server's."


def versions_table(versions: Mapping[str, str]):
    """What runs here."""
    return facts(list(versions.items()))


def fingerprints_table(runs: Sequence[RunHealth]):
    """What each run's numbers depend on: reports are comparable only where the layer's fingerprint is the same."""
    head = html.Tr(
        [html.Th(name, scope="col") for name in ("run", "encoder", "detector", "T", "probe set", "words", "layers")]
    )
    rows = []
    for run in runs:
        info = run.info
        layers = [
            html.Div([html.Span(layer, className="code"), f" {points[-1].summary.fingerprint[:10]}"])
            for layer, points in run.data.series.items()
            if points
        ]
        cells = [
            info.encoder or "–",
            info.detector or "–",
            f"{info.temperature:.3g}" if info.temperature else "–",
            f"{info.probes:,} · {info.probe_fingerprint[:10]}" if info.probe_fingerprint else "–",
            info.concept_fingerprint[:10] or "–",
            layers or "–",
        ]
        rows.append(html.Tr([html.Th(info.name, scope="row"), *[html.Td(cell) for cell in cells]]))
    return html.Table([html.Thead(head), html.Tbody(rows)], className="numbers fingerprints")


def in_bytes(count: float) -> str:
    """A size with its unit.

    >>> in_bytes(3_500_000)
    '3.5 MB'
    """
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
