"""What is known about named models: their licence, and how timm builds them."""

from __future__ import annotations

from collections.abc import Mapping

from napari_protoseg.encoders.pathology import PATHOLOGY_ENCODERS
from napari_protoseg.encoders.records import KnownModel, Licence, permissive, restricted

DEFAULT_ENCODER = "tf_efficientnet_lite0"
"""The encoder whose weights come with the package's dependencies."""

# Sources: the model cards of the published weights. None is shipped but the default's,
# which a dependency carries.
KNOWN_MODELS: Mapping[str, KnownModel] = {
    DEFAULT_ENCODER: KnownModel(
        permissive("Apache-2.0", "Google"), architecture="tf_efficientnet_lite0"
    ),
    "resnet50": KnownModel(permissive("Apache-2.0", "the timm authors"), architecture="resnet50"),
    "swin_tiny_patch4_window7_224": KnownModel(
        permissive("MIT", "Microsoft"), architecture="swin_tiny_patch4_window7_224"
    ),
    **PATHOLOGY_ENCODERS,
    "mit_b1": KnownModel(
        restricted("NVIDIA Source Code License, non-commercial", "NVIDIA"), architecture=None
    ),
    "hibou-l": KnownModel(permissive("Apache-2.0", "HistAI"), architecture=None),
    "ctranspath": KnownModel(
        Licence("GPL-3.0", "Weights by X. Wang et al., GPL-3.0: a copyleft licence.", None),
        architecture=None,
    ),
}


def licence_of(name: str) -> Licence:
    """Return the licence of the published weights of the model called `name`.

    A name that is not in `KNOWN_MODELS` gets a licence that says to look it up.
    """
    known = KNOWN_MODELS.get(name)
    if known is not None:
        return known.licence
    return Licence(
        "unknown; check its model card",
        f"The licence of {name} is unknown here; check its model card before use.",
        None,
    )
