"""Making an encoder by name: ``auto``, ``conse``, ``planted``, ``open_clip:<model>/<tag or path>``, or a plug-in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import entry_points

from cm_server.encoders.base import Encoder, EncoderError

log = logging.getLogger(__name__)

DEFAULT_OPEN_CLIP = "open_clip:ViT-B-32/laion2b_s34b_b79k"
ENTRY_POINT_GROUP = "concept_monitor.encoders"
VALID = "auto, conse, planted, none, open_clip:<model>/<pretrained tag or checkpoint path>"


def make_encoder(spec: str = "auto", device: str | None = None) -> Encoder:
    """Make an encoder by name.

    ``auto`` takes open_clip's ViT-B-32/laion2b_s34b_b79k where its weights are cached, or reachable within a short
    limit, else ``conse``, and logs which and why. Any other name is looked up in the entry points
    ``concept_monitor.encoders``; they are called with the device.

    Args:
        spec: The name.
        device: A torch device name; None takes CUDA if available, else the CPU.

    Raises:
        EncoderError: For an unknown name (the valid ones are listed), or whatever the encoder itself finds missing.
    """
    if spec == "auto":
        return _auto(device)
    if spec.startswith("open_clip:"):
        return _open_clip(spec, device)
    factory = _BUILT_IN.get(spec) or _plug_in(spec)
    if factory is None:
        plug_ins = "".join(f", {point.name}" for point in entry_points(group=ENTRY_POINT_GROUP))
        raise EncoderError(f"unknown encoder {spec!r}; use one of {VALID}{plug_ins}")
    return factory(device)


def make_text_encoder(spec: str = "auto", device: str | None = None) -> Encoder:
    """As `make_encoder`, for detectors that only need words placed: where ``auto`` finds nothing it is ``none``.

    Raises:
        EncoderError: see `make_encoder`.
    """
    try:
        return make_encoder(spec, device)
    except EncoderError as reason:
        if spec != "auto":
            raise
        log.warning("no encoder here, so every word is a direction of its own (encoder none): %s", reason)
        return make_encoder("none")


def _auto(device: str | None) -> Encoder:
    """CLIP where it can be had, else conse; the choice is logged once with its reason."""
    try:
        encoder = _open_clip(DEFAULT_OPEN_CLIP, device)
    except EncoderError as reason:
        try:
            encoder = _conse(device)
        except EncoderError as error:
            raise EncoderError(f"encoder 'auto' finds nothing to run: {reason} | {error}") from error
        log.info("encoder auto: conse, because %s", reason)
        return encoder
    log.info("encoder auto: %s, its weights are at hand", DEFAULT_OPEN_CLIP)
    return encoder


def _open_clip(spec: str, device: str | None) -> Encoder:
    from cm_server.encoders.open_clip_encoder import OpenClipEncoder, split_spec

    model, pretrained = split_spec(spec)
    return OpenClipEncoder(model, pretrained, device=device)


def _conse(device: str | None) -> Encoder:
    from cm_server.encoders.conse import ConseEncoder

    return ConseEncoder(device=device)


def _planted(device: str | None) -> Encoder:
    """The planted encoder computes on the CPU always; the device is of no use to it."""
    from cm_server.encoders.planted import PlantedEncoder

    return PlantedEncoder()


def _none(device: str | None) -> Encoder:
    from cm_server.encoders.directions import WordDirections

    return WordDirections()


def _plug_in(spec: str) -> Callable[[str | None], Encoder] | None:
    """Return the factory that an installed package registers under this name; None if none does."""
    for point in entry_points(group=ENTRY_POINT_GROUP, name=spec):
        return point.load()
    return None


_BUILT_IN: dict[str, Callable[[str | None], Encoder]] = {
    "conse": _conse,
    "planted": _planted,
    "none": _none,
}
