"""How much each unit's activation agrees with each concept, over the probe images.

Every function takes ``image_text`` P ``[N, K]`` (cosine of image and word embeddings) and ``activations`` A ``[N, M]``
(pooled) and returns ``[M, K]``, higher is better, on the device and in the dtype of the input. The ``prepare_…``
functions do once what depends on P alone and return activations → similarity; the plain function is the prepared one,
applied once. Formulas: CLIP-Dissect (arXiv 2204.10965), Label-free CBM (arXiv 2304.06129); reference values in
``tests/data/clip_dissect_small.npz``.

Units that never vary or are not finite mean nothing: :func:`live_units` finds them, and callers leave them out. They
never spoil another unit's row, nor become NaN where a unit's row depends on that unit alone (there it is all 0).
"""

from cm_server.core.similarity.cosine import (
    cos,
    cos_cubed,
    cos_from_embeddings,
    pearson,
    prepare_cos,
    prepare_cos_cubed,
    prepare_from_embeddings,
    prepare_pearson,
)
from cm_server.core.similarity.information import (
    SOFT_WPMI_IMAGES,
    WPMI_IMAGES,
    prepare_soft_wpmi,
    prepare_wpmi,
    soft_wpmi,
    wpmi,
)
from cm_server.core.similarity.masks import auprc, iou, prepare_auprc, prepare_iou
from cm_server.core.similarity.reorder import prepare_rank_reorder, rank_reorder
from cm_server.core.similarity.units import CONSTANT_TOLERANCE, Similarity, live_units, top_images

__all__ = [
    "CONSTANT_TOLERANCE",
    "SOFT_WPMI_IMAGES",
    "WPMI_IMAGES",
    "Similarity",
    "auprc",
    "cos",
    "cos_cubed",
    "cos_from_embeddings",
    "iou",
    "live_units",
    "pearson",
    "prepare_auprc",
    "prepare_cos",
    "prepare_cos_cubed",
    "prepare_from_embeddings",
    "prepare_iou",
    "prepare_pearson",
    "prepare_rank_reorder",
    "prepare_soft_wpmi",
    "prepare_wpmi",
    "rank_reorder",
    "soft_wpmi",
    "top_images",
    "wpmi",
]
