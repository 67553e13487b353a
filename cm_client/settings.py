"""What `watch` was told: arguments first, then the environment (``CM_…``), then defaults."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cm_client.errors import ClientError
from cm_client.keys import Keys, told_keys
from cm_client.schedule import SHARE, Every, Marks
from cm_client.spool import DEFAULT_BYTES
from cm_client.spool_folders import default_root

DEFAULT_SERVER = "tcp://127.0.0.1:7801"
DEFAULT_PROBE_SIZE = 1024
CONFIG_BYTES = 8 * 1024
"""How much of a user's config travels: it shares a header of 16 KiB with the other fields."""
MODES = ("online", "offline", "disabled")
SAMPLES = ("probe", "stream")
_RUN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Settings:
    """Resolved settings of one monitor.

    Attributes:
        server: ZeroMQ address.
        run: id of the run, letters, digits, ``.``, ``_`` and ``-``, 1 to 64 of them, no ``.`` first.
        name: what the dashboard shows for it.
        every: steps between captures, marks, a function of the step, or None for the budget.
        budget: share of the wall time that watching may cost.
        sample: ``probe`` or ``stream``.
        planned_steps: length of the training, -1 where unknown.
        probe_size: images to collect for the probe set.
        start_step: optimiser steps done when this process begins, -1 where the user said nothing.
        mode: ``online``, ``offline`` (to the spool only) or ``disabled`` (watch nothing at all).
        spool: folder of the disk spool, None for none.
        spool_bytes: most that folder may hold.
        named: the user gave the run's id, so that a later process can mean the same run.
        strict: raise internal errors instead of logging them.
        notes: sentences to log as warnings: values that were replaced.
        keys: for a server that wants to know who speaks, None for one on this machine.
    """

    server: str
    run: str
    name: str
    every: Every
    budget: float
    sample: str
    planned_steps: int
    probe_size: int
    start_step: int
    mode: str
    spool: Path | None
    spool_bytes: int
    named: bool
    strict: bool
    notes: tuple[str, ...] = ()
    keys: Keys | None = None


def resolve(
    *,
    server: str | None = None,
    run: str | None = None,
    name: str | None = None,
    every: Every = None,
    budget: float | None = None,
    sample: str | None = None,
    planned_steps: int | None = None,
    probe_size: int | None = None,
    start_step: int | None = None,
    mode: str | None = None,
    key: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Arguments, environment and defaults to `Settings`.

    Raises:
        ClientError: a value is out of range; the text names it and what is allowed.
    """
    env = os.environ if environ is None else environ
    mode = mode or env.get("CM_MODE") or "online"
    if mode not in MODES:
        raise ClientError(f"mode {mode!r} (CM_MODE): choose 'online', 'offline' or 'disabled'")
    spool = _spool(env)
    if mode == "offline" and spool is None:
        raise ClientError("mode 'offline' (CM_MODE) with CM_SPOOL=off: nothing would be kept; set CM_SPOOL to a folder")
    sample = sample or env.get("CM_SAMPLE") or "probe"
    if sample not in SAMPLES:
        raise ClientError(f"sample {sample!r} (CM_SAMPLE): choose 'probe' or 'stream'")
    wanted = run or env.get("CM_RUN") or ""
    chosen = run_id(wanted)
    notes = []
    if wanted not in ("", chosen):
        notes.append(f"run id {wanted!r}: using {chosen!r} (letters, digits, . _ -, up to 64)")
    if every is not None and budget is not None:
        notes.append(f"every= fixes when to capture: budget {budget!r} is not looked at")
    return Settings(
        server=server or env.get("CM_SERVER") or DEFAULT_SERVER,
        run=chosen,
        name=(name or env.get("CM_NAME") or chosen)[:200],
        every=_every(every, env, budget),
        budget=_share(env.get("CM_BUDGET") if budget is None else budget),
        sample=sample,
        planned_steps=_number("planned_steps", planned_steps, env.get("CM_PLANNED_STEPS"), 1, -1),
        probe_size=_number("probe_size", probe_size, env.get("CM_PROBE_SIZE"), 2, DEFAULT_PROBE_SIZE),
        start_step=_number("start_step", start_step, env.get("CM_START_STEP"), 0, -1),
        mode=mode,
        spool=spool,
        spool_bytes=_number("spool_bytes", None, env.get("CM_SPOOL_BYTES"), 0, DEFAULT_BYTES),
        named=bool(wanted),
        strict=env.get("CM_STRICT", "") == "1",
        notes=tuple(notes),
        keys=told_keys(key, env) if mode != "disabled" else None,
    )


def run_id(wanted: str = "") -> str:
    """``wanted`` made fit for a run id, or a new one from date, time and four random letters."""
    if _RUN.fullmatch(wanted):
        return wanted
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-.")[:64]
    return cleaned or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def plain_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A flat copy of ``config`` that fits the wire: plain values, others as text; what is too much is left out."""
    plain: dict[str, Any] = {}
    room = CONFIG_BYTES
    for key, value in _items(config):
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
            value = value.item()  # a scalar of numpy or torch
        if not (value is None or isinstance(value, str | bool | int | float)):
            value = _text(value)
        if isinstance(value, str):
            value = value[:500]
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = str(value)[:500]
        room -= len(json.dumps([str(key)[:100], value]).encode())
        if room < 0 or len(plain) >= 500:
            break
        plain[str(key)[:100]] = value
    return plain


def _spool(env: Mapping[str, str]) -> Path | None:
    told = env.get("CM_SPOOL") or ""
    return None if told == "off" else Path(told).expanduser().absolute() if told else default_root(env)


def _items(config: Any) -> list[tuple[Any, Any]]:
    """A mapping's or namespace's entries; whatever else is said about the run must not cost watching it."""
    try:
        return list((config if isinstance(config, Mapping) else vars(config or object)).items()) if config else []
    except Exception:
        return [("config", "could not be read: give a dict or a namespace")]


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _every(every: Any, env: Mapping[str, str], budget: float | None) -> Every:
    if isinstance(every, Marks) or callable(every):
        return cast(Every, every)
    # An argument goes before the environment: budget= in the script before CM_EVERY.
    return _number("every", every, env.get("CM_EVERY") if budget is None else None, 1, None)


def _share(value: Any) -> float:
    if value is None or value == "":
        return SHARE
    try:
        share = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:
        raise ClientError(f"budget {value!r} (CM_BUDGET): give a share of the time above 0 and up to 1, like 0.01")
    return share


def _number(name: str, given: Any, text: str | None, least: int, default: Any) -> Any:
    value = given if given is not None else text
    if value is None or value == "":
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least or isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise ClientError(f"{name} {value!r} (CM_{name.upper()}): give a whole number from {least}")
    return number
