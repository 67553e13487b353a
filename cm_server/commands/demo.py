"""``concept-monitor demo``: server, dashboard and a training run, each its own process, and a plain summary."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cm_server.commands.demo_summary import summarise, summary_text
from cm_server.commands.processes import Child, ProcessError, spawn_module, start_dashboard, start_server
from cm_server.config import ConfigError, Option, default_cache, parser_for, resolve
from cm_server.stores.reader import StoreReader

DATA = ("auto", "fashion-mnist", "materials", "generated")
OPTIONS = (
    Option("bad", bool, False, "train with a learning rate far too high, so that an alert shows"),
    Option("data", str, "auto", "the pictures to train on", choices=DATA),
    Option("steps", int, 1200, "training steps", minimum=20),
    Option("seed", int, 0, "seed of the training run"),
    Option("every", int, 0, "steps between captures; 0: sixty captures in all", minimum=0),
    Option("encoder", str, "auto", "auto | conse | planted | open_clip:MODEL/PRETRAINED-OR-PATH", metavar="ENCODER"),
    Option("detector", str, "cos_cubed", "how similarity is measured", choices=("cos_cubed", "soft_wpmi")),
    Option("cache", str, default_cache(), "folder of embeddings and maps", metavar="DIR"),
    Option("out", str, "", "folder for store, logs and summary.json; default: a new temporary one", metavar="DIR"),
    Option("port", int, 0, "the dashboard's port; 0 takes a free one", minimum=0),
    Option("headless", bool, False, "do not open a browser"),
    Option("keep", bool, False, "leave server and dashboard up at the end, until Ctrl-C"),
    Option("json", bool, False, "print the summary as JSON, and nothing else, on standard output"),
)
_DESCRIPTION = "Trains a small ResNet on real images with the two client lines, and shows live what its neurons learn."
_CAPTURES = 60
_SPEAK_SECONDS = 10.0
"""Between lines where there is no terminal to draw a bar on."""
_IDLE_SECONDS = 120.0
"""The demo gives up once the analysis has not moved for this long."""


def run(arguments: Sequence[str]) -> int:
    """Runs the demo.

    Returns:
        0 done, 1 training or analysis failed, 2 wrong input.
    """
    flags = parser_for("concept-monitor demo", _DESCRIPTION, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "demo")
    out = _out_folder(values["out"])
    say = _quiet if values["json"] else _say
    started = time.monotonic()
    with ExitStack() as stack:
        server, dashboard, url, addresses = _start(values, out, stack, say)
        summary = _train_and_summarise(values, out, addresses, server, say)
        summary |= {"dashboard": url, "seconds": round(time.monotonic() - started, 1), "out": str(out)}
        (out / "summary.json").write_text(json.dumps(summary, indent=2))
        print(json.dumps(summary, indent=2) if values["json"] else summary_text(summary), flush=True)
        if values["keep"]:
            _wait(url, server, dashboard, say)
    return 0 if summary["state"] == "finished" else 1


def _start(values: dict[str, Any], out: Path, stack: ExitStack, say) -> tuple[Child, Child, str, dict[str, Any]]:
    say(f"writing to {out}; starting server and dashboard …")
    options = {
        "listen": "tcp://127.0.0.1:0",
        "events": "tcp://127.0.0.1:0",
        "encoder": values["encoder"],
        "detector": values["detector"],
        "cache": values["cache"],
        "deliver": False,  # a demo's alerts are nobody else's business
    }
    server, addresses = start_server(out / "store", out / "logs", options)
    stack.callback(server.stop)
    dashboard, url = start_dashboard(out / "store", out / "logs", {"port": values["port"]})
    stack.callback(dashboard.stop)
    say(f"dashboard: {url}")
    if not values["headless"]:
        with suppress(webbrowser.Error):
            webbrowser.open(url)
    return server, dashboard, url, addresses


def _train_and_summarise(values: dict[str, Any], out: Path, addresses: dict[str, Any], server: Child, say) -> dict:
    run_id = f"demo-{'bad' if values['bad'] else 'good'}-{time.strftime('%Y%m%d-%H%M%S')}"
    reader = StoreReader(out / "store")
    training = spawn_module(
        "training", _training_arguments(values), out / "logs", _environment(values, addresses, run_id)
    )
    try:
        with _progress(values["json"]) as show:
            _follow(training, server, reader, run_id, show)
            _raise_if_failed(training)
            _drain(server, reader, run_id, show)
        result = _last_json(training.log)
        return summarise(reader, run_id) | {"training": result}
    finally:
        if training.running:
            training.stop()
        reader.close()


def _training_arguments(values: dict[str, Any]) -> list[str]:
    return [
        "cm_client.examples.train_resnet",
        *("--data", values["data"], "--steps", str(values["steps"]), "--seed", str(values["seed"])),
        *("--progress", "json", "--json"),
        *(["--bad"] if values["bad"] else []),
    ]


def _environment(values: dict[str, Any], addresses: dict[str, Any], run_id: str) -> dict[str, str]:
    every = values["every"] or max(1, values["steps"] // _CAPTURES)
    return {
        "CM_SERVER": str(addresses["ingest"]),
        "CM_RUN": run_id,
        "CM_NAME": f"demo: ResNet-8, {'learning rate far too high' if values['bad'] else 'healthy'}",
        "CM_EVERY": str(every),
        "CM_PLANNED_STEPS": str(values["steps"]),
    }


def _follow(training: Child, server: Child, reader: StoreReader, run_id: str, show) -> None:
    while training.running:
        if not server.running:
            raise ProcessError(f"the server ended: {server.last_words()}")
        show(_last_json(training.log), reader, run_id)
        time.sleep(0.25)
    show(_last_json(training.log), reader, run_id)


def _raise_if_failed(training: Child) -> None:
    code = training.process.returncode
    if code == 2:
        raise ConfigError(training.last_words())
    if code:
        raise ProcessError(f"training ended with exit code {code}: {training.last_words()}; see {training.log}")


def _drain(server: Child, reader: StoreReader, run_id: str, show) -> None:
    """Waits until the server has analysed what the training process left behind."""
    moved, before = time.monotonic(), None
    while time.monotonic() - moved < _IDLE_SECONDS and server.running:
        info = reader.run(run_id)
        if info is not None and info.state in ("finished", "failed", "lost"):
            return
        now = (info and info.activity, len(reader.snapshots(run_id)))
        if now != before:
            moved, before = time.monotonic(), now
        show({}, reader, run_id)
        time.sleep(0.25)


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=quiet)
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    spoken = [time.monotonic()]
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("training", total=None, words="loading pictures")

        def show(line: dict[str, Any], reader: StoreReader, run_id: str) -> None:
            if "step" in line:
                bar.update(task, completed=line["step"], total=line["steps"])
            words = _words(line, reader, run_id)
            bar.update(task, words=words)
            if bar.disable and time.monotonic() - spoken[0] > _SPEAK_SECONDS:
                spoken[0] = time.monotonic()
                step = f"step {line['step']}/{line['steps']} · " if "step" in line else ""
                print(f"{step}{words}", file=sys.stderr if quiet else sys.stdout, flush=True)

        yield show


def _words(line: dict[str, Any], reader: StoreReader, run_id: str) -> str:
    parts = [f"accuracy {line['accuracy']:.0%}"] if "accuracy" in line else []
    info = reader.run(run_id)
    if info is not None and info.activity:
        parts.append(info.activity)
    series = reader.series(run_id)
    points = series[list(series)[-1]] if series else []
    if points:
        last = points[-1]
        parts.append(f"{last.summary.layer} d_anchor {last.summary.d_anchor:.4f} at step {last.step}")
    return " · ".join(parts)


def _last_json(path: Path) -> dict[str, Any]:
    """The newest JSON object among the lines that a training script printed."""
    with suppress(OSError):
        for line in reversed(path.read_text(errors="replace").splitlines()):
            with suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    return found
    return {}


def _wait(url: str, server: Child, dashboard: Child, say) -> None:
    say(f"\nserver and dashboard stay up: {url}   (Ctrl-C ends both)")
    with suppress(KeyboardInterrupt):
        while server.running and dashboard.running:
            time.sleep(0.5)


def _out_folder(named: str) -> Path:
    if not named:
        return Path(tempfile.mkdtemp(prefix="concept-monitor-demo-"))
    out = Path(named)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out is {named!r}: {error.strerror}; choose a folder that can be written") from None
    return out


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
