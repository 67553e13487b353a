"""The encoder ``open_clip:<model>/<pretrained tag or checkpoint path>``: CLIP models as open_clip runs them.

open_clip is imported when an encoder is made, not before. Concept words are the bare prompt; images go through the
model's own transform (size, interpolation, mean, standard deviation).
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cm_server.encoders.base import (
    EncoderError,
    Progress,
    default_device,
    exact_convolutions,
    require_images,
    require_words,
)
from cm_server.encoders.pretrained import cached_weights, download_weights, hub_address, require_host
from cm_server.encoders.weights import digest, state_dict_sha256

PREFIX = "open_clip:"
CURE = 'pip install "concept-monitor[server]"'
_CHECKPOINT_ENDINGS = (".pt", ".pth", ".bin", ".safetensors")
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


class OpenClipEncoder:
    """Words and images in the joint space of a CLIP model.

    Args:
        model: A model that open_clip knows, e.g. ``ViT-B-32``.
        pretrained: One of its tags, e.g. ``laion2b_s34b_b79k``, or the path of a local checkpoint (read offline).
        device: Where the model runs; None takes CUDA if available, else the CPU.
        batch_size: Images or words per forward pass.
        progress: Called with (images done, images in all) after each batch; also settable as an attribute.

    Raises:
        EncoderError: If open_clip is missing, the model, tag or file unknown, the weights neither cached nor
            reachable, or the checkpoint does not fit the model.
    """

    def __init__(
        self,
        model: str,
        pretrained: str,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        progress: Progress | None = None,
    ) -> None:
        self.name = f"{PREFIX}{model}/{pretrained}"
        self._device = default_device(device)
        self._batch_size = batch_size
        self.progress = progress
        config = pretrained_config(model, pretrained)
        require_tokenizer(model)
        path = _weights_path(pretrained, config, self.name)
        self._model = _load(model, path, config, self.name).to(self._device)
        self._transform, self._tokenize = _front_ends(model, self._model, self.name)
        self.dim = int(self.encode_text(["dimension"]).shape[1])
        preprocessing = json.dumps(self._model.visual.preprocess_cfg, sort_keys=True, default=str)
        weights = state_dict_sha256(self._model.state_dict())
        self.fingerprint = digest("open_clip", model, f"quick_gelu={_quick_gelu(config)}", weights, preprocessing)

    @torch.inference_mode()
    def encode_text(self, words: Sequence[str]) -> torch.Tensor:
        """Embed K bare words: float32 ``[K, D]`` on the CPU, rows of unit length."""
        words = require_words(words)
        rows = [torch.empty(0, self.dim)] if not words else []
        for start in range(0, len(words), self._batch_size):
            tokens = self._tokenize(words[start : start + self._batch_size]).to(self._device)
            rows.append(functional.normalize(self._model.encode_text(tokens).float(), dim=1).cpu())
        return torch.cat(rows)

    @torch.inference_mode()
    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        """Embed n uint8 RGB images ``[n, H, W, 3]`` of any one size: float32 ``[n, D]`` on the CPU, unit rows.

        Raises:
            EncoderError: For another dtype or shape.
        """
        from PIL import Image

        images = require_images(images)
        rows = torch.empty(len(images), self.dim)
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            pixels = torch.stack([self._transform(Image.fromarray(image)) for image in batch]).to(self._device)
            with exact_convolutions():
                rows[start : start + len(batch)] = functional.normalize(
                    self._model.encode_image(pixels).float(), dim=1
                ).cpu()
            if self.progress is not None:
                self.progress(start + len(batch), len(images))
        return rows


def split_spec(spec: str) -> tuple[str, str]:
    """Split ``open_clip:<model>/<tag or path>`` at the first slash: model and the rest.

    Raises:
        EncoderError: If one of the two is missing.
    """
    model, slash, pretrained = spec.removeprefix(PREFIX).partition("/")
    if not (model and slash and pretrained):
        raise EncoderError(f"encoder {spec!r} lacks a model or weights; give e.g. open_clip:ViT-B-32/laion2b_s34b_b79k")
    return model, pretrained


def pretrained_config(model: str, pretrained: str) -> dict[str, Any]:
    """Return open_clip's configuration of a tag, or an empty one for an existing checkpoint file.

    Raises:
        EncoderError: If open_clip is missing, or model, tag or file unknown.
    """
    if importlib.util.find_spec("open_clip") is None:
        raise EncoderError(f"encoder 'open_clip' needs the missing package open_clip_torch; run: {CURE}")
    import open_clip

    known = open_clip.list_models()
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3) or known[:3]
        raise EncoderError(f"open_clip knows no model {model!r}; did you mean {', '.join(near)}?")
    if Path(pretrained).expanduser().is_file():
        return {}
    if pretrained.endswith(_CHECKPOINT_ENDINGS) or "/" in pretrained:
        raise EncoderError(f"checkpoint {pretrained} of open_clip model {model} does not exist; give an existing file")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        raise EncoderError(
            f"open_clip model {model} has no weights {pretrained!r}; "
            f"use one of {', '.join(tags) or 'no tag'} or a checkpoint file"
        )
    return dict(open_clip.get_pretrained_cfg(model, pretrained))


def require_tokenizer(model: str) -> None:
    """Check that the model's tokenizer is built in, cached or fetchable, before anything can hang on it.

    Raises:
        EncoderError: If it would have to come from a hub that does not answer in time.
    """
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    text = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
    repository = text.get("hf_tokenizer_name")
    if repository and not isinstance(try_to_load_from_cache(repository, "tokenizer_config.json"), str):
        require_host(hub_address(), f"the tokenizer {repository} of open_clip model {model}")


def _weights_path(pretrained: str, config: dict[str, Any], name: str) -> Path:
    """Return the local file of the weights, fetched where that is possible in time."""
    if not config:
        return Path(pretrained).expanduser()
    return cached_weights(config) or download_weights(config, f"encoder {name}")


def _load(model: str, path: Path, config: dict[str, Any], name: str) -> Any:
    """Build the model from a local file, never by running pickled code: eval mode, float32, no gradients."""
    import open_clip

    try:
        built = open_clip.create_model(
            model,
            pretrained=str(path),
            force_quick_gelu=_quick_gelu(config),
            force_preprocess_cfg={key: config[key] for key in _PREPROCESSING if key in config},
            weights_only=True,
        )
    except Exception as error:  # Unpickling, safetensors and shape errors share no base class.
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise EncoderError(
            f"encoder {name}: {path} does not load ({reason}); give a state_dict checkpoint of this very model"
        ) from error
    return built.eval().requires_grad_(False)


def _front_ends(model: str, built: Any, name: str) -> tuple[Any, Any]:
    """Return the image transform (PIL image to ``[3, S, S]``) and the tokenizer (words to ids ``[b, t]``)."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    try:
        tokenize = open_clip.get_tokenizer(model)
    except Exception as error:  # Missing transformers, hub and file errors share no base class.
        raise EncoderError(f"encoder {name}: its tokenizer does not load ({error}); try another model") from error
    return image_transform_v2(PreprocessCfg(**built.visual.preprocess_cfg), is_train=False), tokenize


def _quick_gelu(config: dict[str, Any]) -> bool:
    """Whether the tag's weights were trained with the quick GELU (a file follows its model's configuration)."""
    return bool(config.get("quick_gelu", False))
