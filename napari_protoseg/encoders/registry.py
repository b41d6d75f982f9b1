"""What is known about named models: their licence, and how timm builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_ENCODER = "tf_efficientnet_lite0"
"""The encoder whose weights come with the package's dependencies."""


@dataclass(frozen=True)
class Licence:
    """The licence of a model's published weights.

    Parameters
    ----------
    name
        In a few words, as a record keeps it.
    notice
        A sentence for a person, shown before first use.
    commercial
        Whether commercial use is allowed; None where that is not known.
    """

    name: str
    notice: str
    commercial: bool | None


@dataclass(frozen=True)
class KnownModel:
    """A model that this program knows by name.

    Parameters
    ----------
    licence
        Of its published weights.
    architecture
        Name under which timm builds it; None where timm cannot.
    arguments
        Further arguments of ``timm.create_model`` that its weights ask for.
    mean, std
        Normalisation in units of 0..1, where it is not the architecture's own.
    """

    licence: Licence
    architecture: str | None
    arguments: Mapping[str, int | float] = field(default_factory=dict)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def _permissive(name: str, owner: str) -> Licence:
    return Licence(name, f"Weights by {owner}, {name}: commercial use is allowed.", True)


def _restricted(name: str, owner: str) -> Licence:
    return Licence(name, f"Weights by {owner}, {name}: research only, no commercial use.", False)


# Sources: the model cards of the published weights. None is shipped but the default's,
# which a dependency carries.
KNOWN_MODELS: Mapping[str, KnownModel] = {
    DEFAULT_ENCODER: KnownModel(
        _permissive("Apache-2.0", "Google"), architecture="tf_efficientnet_lite0"
    ),
    "resnet50": KnownModel(_permissive("Apache-2.0", "the timm authors"), architecture="resnet50"),
    "swin_tiny_patch4_window7_224": KnownModel(
        _permissive("MIT", "Microsoft"), architecture="swin_tiny_patch4_window7_224"
    ),
    "mit_b1": KnownModel(
        _restricted("NVIDIA Source Code License, non-commercial", "NVIDIA"), architecture=None
    ),
    "h-optimus-0": KnownModel(
        _permissive("Apache-2.0", "Bioptimus"),
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={"img_size": 224, "init_values": 1e-5},
        mean=(0.707223, 0.578729, 0.703617),
        std=(0.211883, 0.230117, 0.177517),
    ),
    "uni": KnownModel(
        _restricted("CC-BY-NC-ND-4.0, gated", "Mahmood Lab"),
        architecture="vit_large_patch16_224",
        arguments={"img_size": 224, "init_values": 1e-5},
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    "hibou-b": KnownModel(_permissive("Apache-2.0", "HistAI"), architecture=None),
    "hibou-l": KnownModel(_permissive("Apache-2.0", "HistAI"), architecture=None),
    "conch": KnownModel(_restricted("CC-BY-NC-ND-4.0, gated", "Mahmood Lab"), architecture=None),
    "virchow2": KnownModel(_restricted("CC-BY-NC-ND-4.0, gated", "Paige"), architecture=None),
    "phikon": KnownModel(_restricted("Owkin non-commercial licence", "Owkin"), architecture=None),
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
