"""``concept-monitor``: one command, a subcommand for each thing people do.

Exit codes: 0 done, 1 something failed on the way, 2 the input is wrong (one line says what and the cure).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from cm_server.config import ConfigError
from cm_server.version import VERSION

COMMANDS = {
    "demo": "train a small network on real images and watch it, all in one",
    "up": "start server and dashboard together",
    "server": "start the server that training processes send to",
    "dashboard": "start the dashboard on a store",
    "embed": "embed a data set's images once, for training towards diverse neurons",
    "runs": "list, show, export, rename, tag, delete, prune, compact, back up and restore runs",
    "report": "write a run as one HTML file that opens without a server",
    "alerts": "replay, list, acknowledge, silence and try out alerts",
    "keygen": "make keys, for a server that listens beyond this machine",
    "sync": "send what training processes left in the disk spool",
    "search": "ask a run in any words: nearest concepts, neurons and probe images",
    "anchors": "words of your own that a run's neurons should near or avoid: list, add, remove",
    "probe": "build a labelled, broad probe set from Debian's packages",
    "request": "ask a running training to capture now, pause, resume, watch other layers or stop",
    "doctor": "check the installation and say how to fix what is wrong",
}

_USAGE = "usage: concept-monitor COMMAND [options]\n\ncommands:\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: without the program's name; the process's own if None.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"concept-monitor {VERSION}")
        return 0
    if arguments[0] not in COMMANDS:
        print(f"concept-monitor: no command {arguments[0]!r}: choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return _run(arguments[0], arguments[1:])


def _run(command: str, arguments: list[str]) -> int:
    try:
        return importlib.import_module(f"cm_server.commands.{command}").run(arguments)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        print(_missing(error), file=sys.stderr)
        return 2
    except (ConfigError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, _expected_errors()):
            print(f"concept-monitor {command}: {error}", file=sys.stderr)
            return 2
        raise


def _expected_errors() -> tuple[type[BaseException], ...]:
    """Errors whose message is written for users; anything else is a bug and keeps its traceback."""
    found: list[type[BaseException]] = [ConfigError]
    for module, name in (
        ("cm_server.stores.errors", "StoreError"),
        ("cm_server.service", "ServiceError"),
        ("cm_server.status_server", "StatusError"),
        ("cm_server.encoders", "EncoderError"),
        ("cm_server.detectors", "DetectorError"),
        ("cm_server.projections", "ProjectionError"),
        ("cm_server.concepts", "ConceptFileError"),
        ("cm_server.commands.processes", "ProcessError"),
        ("cm_server.probes.packages", "ProbeBuildError"),
        ("cm_server.image_sets", "ImageSetError"),
        ("cm_server.embedding_folder", "EmbeddingFolderError"),
        ("cm_server.control", "ControlError"),
        ("cm_server.notifiers.operations", "OperationError"),
        ("cm_server.keyring", "KeyringError"),
        ("cm_client.errors", "ClientError"),
        ("cm_server.keeping", "KeepingError"),
        ("cm_server.exports.selection", "ExportError"),
    ):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def _missing(error: ModuleNotFoundError) -> str:
    return (
        f"concept-monitor: the package {error.name!r} is not installed: "
        'pip install "concept-monitor[all]" (or [server], [dashboard])'
    )


def _usage() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"{_USAGE}{lines}\n\nconcept-monitor COMMAND --help says more; --version prints the version."


if __name__ == "__main__":
    sys.exit(main())
