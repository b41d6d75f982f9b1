"""Looking at one image: what the model at hand makes of it, mask recipe by mask recipe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from napari_protoseg.events import Job, Progress
from napari_protoseg.jobs.made_of import labels_text
from napari_protoseg.jobs.models import ModelKey, model_at_hand, trained_model
from napari_protoseg.jobs.muted import with_muted_of_bank
from napari_protoseg.jobs.predict import in_model_order
from napari_protoseg.jobs.preparation import frozen_evidence
from napari_protoseg.masks.prediction import Prediction, Predictor, View
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.masks.windows import padded_size
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.record import ModelKind
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, MaskSource, PredictedMask


@dataclass(frozen=True, eq=False)
class Sight:
    """What a model sees in one image.

    Parameters
    ----------
    image
        Which.
    key, predictor
        The model, with the recipe that the prediction was made by.
    pixels
        uint8 ``(H, W, 3)``, RGB.
    views
        Its maps, for other recipes.
    prediction
        Of this one image.
    labels
        With which it was made, as a mask records them; None where not with given ones.
    """

    image: ImageRecord
    key: ModelKey
    predictor: Predictor
    pixels: NDArray[np.uint8]
    views: tuple[View, ...]
    prediction: Prediction
    labels: str | None = None

    @property
    def class_maps(self) -> dict[int, NDArray[np.float32]]:
        """The map of each class of the model, ``(H, W)`` in 0..1, by class id."""
        ids = self.predictor.class_ids.tolist()
        return dict(zip(ids, self.prediction.class_maps[0], strict=True))

    def mask(self, now: datetime) -> tuple[PredictedMask, MaskSource]:
        """Return the mask, made `now`, and what it comes from."""
        recipe = self.predictor.recipe
        mask = PredictedMask(
            self.image.known_id, self.prediction.masks[0], self.prediction.confidence[0]
        )
        source = MaskSource(
            round_id=self.key.round_id,
            bank_version=self.key.bank_version if self.key.round_id is None else None,
            label_condition=recipe.labels.value,
            recipe_json=recipe.model_dump_json(),
            created=now,
            labels=self.labels,
        )
        return mask, source

    def prototype_map(self, prototype: int) -> NDArray[np.float32] | None:
        """Return where a prototype is, ``(H, W)``, unbounded; None where the model has none such.

        Of the last stage, before classes are made of prototypes.
        """
        stage = self.views[0].maps[-1]
        if _is_cam(self.predictor) or not 0 <= prototype < stage.shape[1]:
            return None
        height, width = self.pixels.shape[:2]
        size = padded_size(height, width, self.predictor.model.coarsest)
        with torch.inference_mode():
            large = F.interpolate(
                stage[:, prototype : prototype + 1], size, mode="bilinear", align_corners=True
            )
        return np.asarray(large[0, 0, :height, :width].cpu().numpy(), dtype=np.float32)


def look(
    project: Project,
    image: ImageRecord,
    pixels: NDArray[np.uint8],
    recipe: Recipe,
    *,
    last: Sight | None,
    device: torch.device,
) -> Job[Sight | None]:
    """Predict one image of the project with the model at hand.

    Parameters
    ----------
    project
        Whose model it is.
    image, pixels
        The image, uint8 ``(H, W, 3)``, RGB.
    recipe
        From maps to mask; the prototypes are muted that are muted in the model's bank.
    last
        What was seen before: the model is not opened again if it is the same, nor run again if
        the image is the same too.
    device
        Where it computes.

    Returns
    -------
    Sight or None
        None where there is no model yet.

    Raises
    ------
    ProjectError, CheckpointError, BankError, WeightsError, TrainingError
    """
    key = model_at_hand(project)
    if key is None:
        return None
    known = last is not None and last.key == key and last.predictor.device == device
    if known and last is not None:  # opening it says so where a class of it is gone
        known = set(last.predictor.class_ids.tolist()) <= set(project.schema.ids)
    predictor = last.predictor if known and last is not None else _open(project, key, device)
    yield Progress("Looking at the image", 1, 3)
    kind = ModelKind.PLAIN_CAM if _is_cam(predictor) else ModelKind.PROTOTYPES
    recipe = with_muted_of_bank(project, recipe, kind, key.bank_version)
    predictor = predictor.with_recipe(recipe)
    if last is not None and known and _seen(last, image, recipe):
        views = last.views
    else:
        views = predictor.look(pixels[None])
    yield Progress("Looking at the image", 2, 3)
    schema = project.schema
    positions = [schema.ids.index(class_id) for class_id in predictor.class_ids.tolist()]
    (in_order,) = in_model_order([image], positions)
    labels = np.array([in_order.label], dtype=np.int8)
    prediction = predictor.decide(views, pixels[None], labels)
    is_given = recipe.labels is LabelCondition.GIVEN
    text = labels_text(predictor.class_ids.tolist(), in_order.label) if is_given else None
    return Sight(image, key, predictor, pixels, views, prediction, text)


def _seen(last: Sight, image: ImageRecord, recipe: Recipe) -> bool:
    """Tell whether the maps of the last sight serve this image and recipe too."""
    before = last.predictor.recipe
    return (last.image.id, before.flip, before.intensities) == (
        image.id,
        recipe.flip,
        recipe.intensities,
    )


def _open(project: Project, key: ModelKey, device: torch.device) -> Predictor:
    if key.round_id is None:
        model = frozen_evidence(project, device=device)
        return Predictor(model, project.schema.ids, Recipe(), device)
    trained = trained_model(project)
    return Predictor(trained.model, trained.record.classes.ids, Recipe(), device)


def _is_cam(predictor: Predictor) -> bool:
    return isinstance(predictor.model, PlainCam)
