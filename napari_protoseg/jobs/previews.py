"""What a network that is being trained makes of one image, at the end of each epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_protoseg.errors import ProtosegError
from napari_protoseg.events import Event, Notice, Severity
from napari_protoseg.jobs.records import read_recorded
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.maps import MapModel
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.devices import out_of_memory

ChooseImage = Callable[[], ImageRecord | None]
"""Returns the image to look at now, with its label in the order of the project's classes."""


@dataclass(frozen=True, eq=False)
class EpochPreview(Event):
    """Class maps of one image after an epoch, by its given labels.

    Parameters
    ----------
    epoch
        Number of the epoch, from 0.
    image_id
        Of the image in the project.
    class_maps
        float32 ``(N, H, W)`` in 0..1, in the order of the model's classes.
    """

    epoch: int
    image_id: int
    class_maps: NDArray[np.float32]


def epoch_previews(
    choose: ChooseImage,
    schema: ClassSchema,
    recipe: Callable[[], Recipe],
    device: torch.device,
) -> Callable[[MapModel, int], tuple[Event, ...]]:
    """Return what a training calls after each epoch: it previews the image chosen by then.

    An image that cannot be read, or does not fit into memory, is no reason to end a training: it
    becomes a warning.

    Parameters
    ----------
    choose
        Called in the thread of the training.
    schema
        Classes of the model, which are those of the project.
    recipe
        Returns the recipe of the maps by then; called in the thread of the training, too.
    device
        Where the model is.
    """

    def preview(model: MapModel, epoch: int) -> tuple[Event, ...]:
        image = choose()
        if image is None or image.id is None:
            return ()
        try:
            pixels = read_recorded(image)[None]
            labels = np.array([image.label], dtype=np.int8)
            predictor = Predictor(model, schema.ids, recipe(), device)
            maps = predictor.predict(pixels, labels).class_maps[0]
        except ProtosegError as error:
            return (_warning(error),)
        except torch.OutOfMemoryError:
            return (_warning(out_of_memory(device)),)
        return (EpochPreview(epoch, image.id, maps),)

    return preview


def _warning(error: Exception) -> Notice:
    return Notice(f"Training goes on without maps of the open image. {error}", Severity.WARNING)
