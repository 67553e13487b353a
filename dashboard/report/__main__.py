"""``python -m dashboard.report RUN``: writes the report of a run."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from plotly.offline import get_plotlyjs

from cm_server.config import STORE, ConfigError, Option, parser_for, resolve
from cm_server.report import RunInfo
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from dashboard.data import Source
from dashboard.report.document import document
from dashboard.report.sections import Report, sections

PROGRAM = "concept-monitor report"
OPTIONS = (
    STORE,
    Option("out", str, "", "the file to write; default: RUN.html here", metavar="FILE"),
    Option("step", int, -1, "tell of the run up to this step; -1: all of it"),
    Option("layer", str, "", "module path of the map and the neurons; default: the deepest"),
    Option("theme", str, "auto", "colours; auto: the reader's own", choices=("auto", "light", "dark")),
    Option("json", bool, False, "print JSON instead of a line"),
)
_DESCRIPTION = "Writes a run as one HTML file that opens without a server and fetches nothing from anywhere."


def main(arguments: list[str] | None = None) -> int:
    """Writes the file and says where it is.

    Returns:
        0 when it is written, 2 for a setting, store, run or file that does not work.
    """
    parser = parser_for(PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", help="run id, as `concept-monitor runs` lists it")
    flags = parser.parse_args(arguments)
    try:
        values = resolve(OPTIONS, flags, "report")
        step = values["step"] if values["step"] >= 0 else None
        text = make(Path(values["store"]), flags.run, values["layer"], step, values["theme"])
        path = Path(values["out"] or f"{_file_name(flags.run)}.html")
        _write(path, text)
    except (ConfigError, StoreError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    written = {"run": flags.run, "file": str(path), "bytes": len(text.encode())}
    line = json.dumps(written) if values["json"] else f"report: {path} ({written['bytes'] / 1e6:.1f} MB)"
    print(line)
    return 0


def make(store: Path, run: str, layer: str = "", step: int | None = None, theme: str = "auto") -> str:
    """The report's text.

    Args:
        store: the store's folder.
        run: run id.
        layer: module path of the map and the neurons; empty for the deepest.
        step: the last step told of; None for all.
        theme: ``auto``, ``light`` or ``dark``.

    Raises:
        StoreError: there is no store.
        ConfigError: no such run or layer, or nothing to tell yet.
    """
    StoreReader(store).close()  # says what is wrong with it
    source = Source(store, lambda _run: 0)
    data = source.run(run)
    if data is None:
        raise ConfigError(f"no run {run!r} in {store}: {_known(source.runs())}")
    if not data.longest():
        raise ConfigError(f"run {run!r} has no snapshot yet ({data.info.state}): there is nothing to report")
    names = [name for name, _ in data.layers]
    if layer and layer not in names:
        raise ConfigError(f"run {run!r} has no layer {layer!r}: choose one of {', '.join(names)}")
    report = Report(source, data, layer or data.layer(None) or "", step)
    told = sections(report)
    return document(f"{data.info.name} — Concept Monitor", told, report.figures, get_plotlyjs(), _styles(), theme)


def _styles() -> list[str]:
    folder = Path(__file__).parent.parent / "assets"
    return [(folder / name).read_text(encoding="utf-8") for name in ("places.css", "style.css")]


def _known(runs: list[RunInfo]) -> str:
    named = ", ".join(run.run for run in runs[:5]) or "none"
    return f"it has {named}" + (" …" if len(runs) > 5 else "")


def _file_name(run: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in run).lstrip(".") or "run"


def _write(path: Path, text: str) -> None:
    """Appears under its name only when it is complete."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False, suffix=".part") as part:
            part.write(text)
        Path(part.name).replace(path)
        path.chmod(0o644)
    except OSError as error:
        raise ConfigError(f"--out {str(path)!r} cannot be written ({error.strerror}): give another file") from None


if __name__ == "__main__":
    sys.exit(main())
