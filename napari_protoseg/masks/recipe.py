"""The mask recipe: everything between prototype maps and masks, as one saved object."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_protoseg.errors import ProjectError
from napari_protoseg.network.maps import STAGE_WEIGHTS
from napari_protoseg.network.reduction import Merge
from napari_protoseg.storage import read_whole
from napari_protoseg.training.config import Compat

_MOST_BYTES = 2**20


class LabelCondition(StrEnum):
    """Which classes a mask may use."""

    GIVEN = "given"
    """Those that the image-level label does not exclude: an unknown class is allowed."""
    PREDICTED = "predicted"
    """Those that the model itself finds in the image, at least the most probable one. Where the
    classes share each pixel (`Normalisation.SOFTMAX`), none is left out, but each is weighed by
    how probable it is that it is there; where a model decides on each pixel by itself, all."""
    NONE = "none"
    """All."""


class Normalisation(StrEnum):
    """How class maps of different classes are made comparable."""

    MIN_MAX = "min-max"
    """Each map is scaled to 0..1 over the image."""
    SIGMOID = "sigmoid"
    """Each value becomes the probability that its logit stands for; no map is all negative."""
    SOFTMAX = "softmax"
    """The values of a pixel, fused over the stages, become probabilities: they sum to 1 over all
    classes, also over those that may not appear in the image, which are then left out."""


class Background(StrEnum):
    """Which pixels stay unlabelled, beside those that no class claims."""

    OFF = "off"
    WHITE = "white"
    """Glass: near-white pixels."""
    MARGIN = "margin"
    """Pixels whose highest class map lies below a threshold, which is learned by Otsu's method
    from the training images where it is not given."""


class Recipe(BaseModel):
    """How prototype maps become a mask.

    Parameters
    ----------
    stage_weights
        Of the stages, the last ones where a model has fewer.
    merge
        How the prototypes of a class make one map.
    normalisation
        How the maps of the classes are made comparable.
    labels
        Which classes a mask may use.
    background
        Which pixels stay unlabelled.
    margin
        Threshold of `Background.MARGIN`, 0..1; None to learn it.
    flip
        Average over the image and its mirror image.
    intensities
        Average over the image's intensities times these.
    muted
        Prototypes of the model, by number from 0, that take no part in class maps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stage_weights: tuple[float, ...] = STAGE_WEIGHTS
    merge: Merge = Merge.MEAN
    normalisation: Normalisation = Normalisation.SOFTMAX
    labels: LabelCondition = LabelCondition.GIVEN
    background: Background = Background.OFF
    margin: float | None = Field(default=None, ge=0, le=1)
    flip: bool = True
    intensities: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    muted: tuple[int, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe from a JSON file.

        Raises
        ------
        StorageError, ProjectError
        """
        content = read_whole(path, most=_MOST_BYTES)
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ProjectError(
                f"not a mask recipe: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                where=path,
                remedy="Give a recipe.json as `protoseg predict` writes it beside the masks.",
            ) from error


REFERENCE = Recipe(
    merge=Merge.SOFTMAX, normalisation=Normalisation.MIN_MAX, intensities=(0.9, 1.0, 1.1)
)
"""The recipe of the released code."""

SEGMENTATION = Recipe(labels=LabelCondition.PREDICTED)
"""Of the second stage, which asks for no labels."""


def default_recipe(compat: Compat) -> Recipe:
    """Return the recipe that suits a model which was trained by a form of the method.

    A class of the released form is told by the mean of a map, so that its maps are scaled each by
    itself. Any other model does best on real tissue where classes share each pixel, a plain class
    activation map too (`docs/benchmarks.md`).
    """
    return REFERENCE if compat is Compat.REFERENCE else Recipe()
