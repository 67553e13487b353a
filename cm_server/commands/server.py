"""``concept-monitor server``."""

from __future__ import annotations

import argparse
import difflib
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cm_server import logs
from cm_server.config import (
    DEFAULT_EVENTS,
    DEFAULT_INGEST,
    STORE,
    ConfigError,
    Option,
    default_cache,
    parser_for,
    read_file,
    resolve,
)
from cm_server.core.retention import Retention, RetentionError, parse
from cm_server.fault_points import VARIABLE, arm
from cm_server.guards import MOST_CONNECTIONS, Guards
from cm_server.memory import RESTART_STATUS
from cm_server.notifiers.log import ALERT_LOGGER
from cm_server.rules import RuleBook
from cm_server.sizes import size

if TYPE_CHECKING:
    from cm_server.detectors import AnyDetector
    from cm_server.encoders import Encoder
    from cm_server.notifiers.settings import NotifySettings
    from cm_server.service import Service

logger = logging.getLogger(__name__)

ANALYSIS = (
    Option(
        "encoder", str, "auto", "auto | conse | planted | none | open_clip:MODEL/PRETRAINED-OR-PATH", metavar="ENCODER"
    ),
    Option(
        "detector",
        str,
        "cos_cubed",
        "what a unit responds to: cos_cubed | soft_wpmi | cos | wpmi | rank_reorder | pearson | auprc | iou (words by "
        "the encoder), net_dissect | compositional | milan | invert (labels of their own), or a plug-in's name",
        metavar="DETECTOR",
    ),
    Option("broden", str, "", "labelled set in Broden's format, for net_dissect and compositional", metavar="DIR"),
    Option("captions", str, "", "CSV of layer,unit,caption, for milan", metavar="FILE"),
    Option("captioner", str, "", "a plugged-in captioner, for milan", metavar="NAME"),
    Option(
        "map_size", int, 7, "largest side of the activation maps that clients send, where maps are needed", minimum=1
    ),
    Option("concepts", str, "", "file of words, one a line, optional category; or common-words[:N]; default: ours"),
    Option("projection", str, "umap", "how the words are laid out on the map", metavar="{umap,pca}"),
    Option("placement", str, "barycentric", "how units are placed among the words", metavar="{barycentric,umap}"),
    Option("tau", float, 0.0, "lowest similarity for 'interpretable'; the calibrated null counts where it is higher"),
    Option("bootstrap", int, 0, "resampled probe sets per capture that say how stable labels are; 0: none", minimum=0),
    Option("temperature", float, 0.0, "T of Eq. 1; 0 lets the label-free rule choose", minimum=0),
    Option(
        "keep_similarities",
        int,
        10,
        "keep all similarities of every n-th capture (2 bytes a unit and word), to draw d_anchor at another T; 0: none",
        minimum=0,
        metavar="N",
    ),
    Option("device", str, "", "cpu, cuda, …; default: a GPU where there is one"),
    Option("threads", int, 0, "CPU threads for the analysis; 0: half of the cores", minimum=0),
    Option("nice", int, 0, "added to the process's niceness, to stay out of a training run's way", minimum=0),
)
PLACES = (
    STORE,
    Option("cache", str, default_cache(), "folder of embeddings and maps", metavar="DIR"),
)
RULES = Option("rules", str, "", "TOML file of alert rules; default: [alerts] of the configuration", metavar="FILE")
ALLOW_COMMANDS = Option(
    "allow_commands", bool, False, "let [notify.command…] tables of the TOML file run programs", in_file=False
)
RETAIN = Option(
    "retain",
    str,
    "all",
    "which snapshots keep their arrays per neuron (curves always stay): all, or one or more of last:N, every:N, thin:N "
    "(all of the newest N, then fewer with age)",
    metavar="RULES",
)
RUN_LIMIT = Option(
    "run_limit", str, "", "most bytes of arrays per run, such as 20GB; older ones go first", metavar="SIZE"
)
ARCHIVE = Option(
    "archive",
    str,
    "",
    "object store that closed array files move to, such as s3://bucket/prefix (whatever fsspec opens)",
    metavar="URL",
)
DELIVER = Option("deliver", bool, True, "deliver alerts to the [notify…] channels of the TOML file")
GUARDS = (
    Option("keys", str, "", "folder made by keygen; needed to listen anywhere but on loopback", metavar="DIR"),
    Option("connections", int, MOST_CONNECTIONS, "most connections at a time, of each port", minimum=1),
    Option("memory", int, 0, "MB at which the server stops, to be started again; 0: half of the machine's", minimum=0),
)
OPTIONS = (
    *PLACES,
    Option("listen", str, DEFAULT_INGEST, "address for training processes; port 0 takes a free one", metavar="URL"),
    Option("events", str, DEFAULT_EVENTS, "address for dashboards; port 0 takes a free one", metavar="URL"),
    Option(
        "http",
        str,
        "",
        "address of /healthz, /readyz and /metrics, such as 127.0.0.1:7803; default: none",
        metavar="HOST:PORT",
    ),
    Option("stop_seconds", float, 10.0, "a stop takes this long at most to commit what was handed over", minimum=0),
    *GUARDS,
    *ANALYSIS,
    RULES,
    *logs.OPTIONS,
    DELIVER,
    ALLOW_COMMANDS,
    RETAIN,
    RUN_LIMIT,
    ARCHIVE,
)
_DESCRIPTION = "Starts the server: takes captures, names what units respond to, stores reports, raises alerts."


def run(arguments: Sequence[str]) -> int:
    """Serves until SIGINT or SIGTERM.

    Returns:
        0 if everything handed over is committed; 1 if captures were left to their clients, which send them again;
        `RESTART_STATUS` where it is to be started again.
    """
    flags = parser_for("concept-monitor server", _DESCRIPTION, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "server")
    book = rule_book(flags, values)
    notify = notify_settings(flags, values)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # tells at every start which CPU variants it lacks
    logs.set_up(values, notify.redact)
    if notify.terminal:  # where alerts are shown in frames, not each of them once more as a line
        for handler in logging.getLogger().handlers:
            handler.addFilter(lambda record: record.name != ALERT_LOGGER)
    arm(os.environ.get(VARIABLE, ""))
    return serve(values, book, notify)


def rule_book(flags: argparse.Namespace, values: Mapping[str, Any]) -> RuleBook:
    """The rules' settings: the file that ``--rules`` names, else the configuration's ``[alerts]``.

    Raises:
        ConfigError: something in them is wrong.
    """
    if values["rules"]:
        return RuleBook.from_file(Path(values["rules"]))
    file, content = read_file(flags)
    return RuleBook(content.get("alerts"), f"{file}: [alerts]")


def notify_settings(flags: argparse.Namespace, values: Mapping[str, Any]) -> NotifySettings:
    """The ``[notify]`` tables of the file that the flags, or the environment, name.

    Raises:
        ConfigError: something in them is wrong.
    """
    from cm_server.notifiers.settings import load  # not for `runs` and `doctor`, which need none of its packages

    file, content = read_file(flags) if values["deliver"] else ("", {})
    settings = load(file, content, allow_commands=values["allow_commands"])
    return replace(settings, terminal=sys.stderr.isatty()) if settings.terminal is None else settings


def retention(rules: str, limit: str, rules_flag: str, limit_flag: str) -> Retention:
    """What to keep, from two settings.

    Raises:
        ConfigError: one of them cannot be read.
    """
    try:
        most = size(limit) if limit else 0
    except ValueError as error:
        raise ConfigError(f"{limit_flag} is {error}") from None
    try:
        return parse(rules, most)
    except RetentionError as error:
        raise ConfigError(f"{rules_flag}: {error}") from None


def serve(values: Mapping[str, Any], book: RuleBook, notify: NotifySettings) -> int:
    """Builds the service from resolved options and runs it; returns the exit code."""
    keep = retention(values["retain"], values["run_limit"], "--retain", "--run-limit")
    from cm_server.service import Service, ServiceSettings  # heavy: torch, faiss

    if values["nice"]:
        os.nice(values["nice"])
    _limit_threads(values["threads"])
    service = Service(
        ServiceSettings(
            listen=values["listen"],
            events=values["events"],
            store=Path(values["store"]),
            cache=Path(values["cache"]),
            worker=_worker_settings(values, book.watched_words()),
            rules=book,
            notify=notify,
            http=values["http"],
            stop_seconds=values["stop_seconds"],
            retention=keep,
            archive=values["archive"],
            guards=_guards(values),
        )
    )
    _spare_the_collector()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.stop())
    if not service.run(lambda: _announce(service, values)):
        logging.shutdown()
        os._exit(_exit_code(service))  # what can be is committed; unloading native libraries under a thread aborts
    return _exit_code(service)


def _announce(service: Service, values: Mapping[str, Any]) -> None:
    words = f"server: training processes {service.listen}, dashboards {service.events}"
    words += f", health and metrics http://{service.http}" if service.http else ""
    if values["log_format"] == "json":
        logger.info(words)
    else:
        print(words, flush=True)


def _exit_code(service: Service) -> int:
    if service.left:
        logger.warning("%d captures are left to their clients, which send them again", service.left)
    if service.outgrown:
        return RESTART_STATUS
    return 1 if service.left else 0


def _guards(values: Mapping[str, Any]) -> Guards:
    keys = Path(values["keys"]).expanduser() if values["keys"] else None
    return Guards(keys, values["connections"], values["memory"] * 2**20)


def _encoder(detector: AnyDetector, values: Mapping[str, Any]) -> Encoder:
    """The encoder asked for; for a detector that only needs words told apart, ``none`` where none can be had."""
    from cm_server.detectors import LabelledDetector
    from cm_server.encoders import EncoderError, make_encoder, make_text_encoder

    words_only = isinstance(detector, LabelledDetector) and not detector.needs_encoder
    encoder = (make_text_encoder if words_only else make_encoder)(values["encoder"], values["device"] or None)
    if encoder.name == "none" and not words_only:
        raise EncoderError(
            f"encoder none knows no meaning, and detector {detector.name} needs it: give --encoder conse"
        )
    return encoder


def _worker_settings(values: Mapping[str, Any], watched: tuple[str, ...]):
    from cm_server.concepts import load_concepts
    from cm_server.detectors import Given, LabelledDetector, make_detector
    from cm_server.projections import PLACEMENTS, PROJECTIONS, ProjectionError
    from cm_server.worker import WorkerSettings

    if values["projection"] not in PROJECTIONS:
        raise ProjectionError(f"projection {values['projection']!r} is unknown: choose one of {', '.join(PROJECTIONS)}")
    if values["placement"] not in PLACEMENTS:
        raise ProjectionError(f"placement {values['placement']!r} is unknown: choose one of {', '.join(PLACEMENTS)}")
    given = Given(values["broden"], values["captions"], values["captioner"], values["map_size"])
    detector = make_detector(values["detector"], given)
    own = detector.concepts(None) if isinstance(detector, LabelledDetector) else None
    concepts = own or load_concepts(values["concepts"] or None)
    for word in watched:
        if word not in concepts.words:
            close = difflib.get_close_matches(word, concepts.words, n=1)
            cure = f"did you mean {close[0]!r}?" if close else "add it to the file given by --concepts"
            raise ConfigError(f"[alerts] watches the word {word!r}, which is no concept: {cure}")
    return WorkerSettings(
        encoder=_encoder(detector, values),
        detector=detector,
        concepts=concepts,
        projection=values["projection"],
        placement=values["placement"],
        tau=values["tau"],
        temperature=values["temperature"] or None,
        device=values["device"] or None,
        watched=watched,
        bootstrap=values["bootstrap"],
        keep_every=values["keep_similarities"],
    )


def _spare_the_collector() -> None:
    """What is here now (modules, words, encoder) stays: not to be gone through again for every few hundred messages."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _limit_threads(threads: int) -> None:
    import faiss
    import torch

    # More threads than free cores make every parallel loop wait for the slowest, in the training run beside us too.
    threads = threads or max(1, (os.cpu_count() or 2) // 2)
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
