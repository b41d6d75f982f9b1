"""Predicting many images: read ahead, in batches of one size that fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray

from napari_protoseg.encoders.cache import Features
from napari_protoseg.encoders.encoding import DenseFeatures
from napari_protoseg.images.ahead import read_ahead
from napari_protoseg.jobs.records import read_recorded
from napari_protoseg.masks.prediction import Prediction, Predictor
from napari_protoseg.masks.windows import DEFAULT_WINDOWS
from napari_protoseg.project.arrays import masks_per_shard
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.training.devices import out_of_memory

_BATCH_PIXELS = 16 * 224 * 224
_AHEAD_PIXELS = 2 * _BATCH_PIXELS

_Known = tuple[Features | None, ...]
"""What the cache has of the images of a batch."""


def predict_batches(
    predictor: Predictor,
    images: Sequence[ImageRecord],
    features: DenseFeatures | None = None,
) -> Iterator[tuple[tuple[ImageRecord, ...], Prediction]]:
    """Predict images of one size together.

    Parameters
    ----------
    predictor
        Model and recipe.
    images
        To predict, with labels in the order of the model's classes.
    features
        Of the model's encoder, to make of them the maps of images as they are, where one window
        holds them; None to run the model.

    Raises
    ------
    ImageError
        An image cannot be read, or has changed.
    TrainingError
        Memory is not enough for a single image; for several, fewer are taken at once.
    """
    in_order = sorted(images, key=_size)
    reading = read_ahead(
        lambda image: (read_recorded(image), _known(image, features)),
        in_order,
        cost=lambda image: image.height * image.width,
        most=_AHEAD_PIXELS,
    )
    with closing(reading):
        for (height, width), group in groupby(in_order, key=_size):
            left = tuple(group)
            fitting = max(_BATCH_PIXELS // (height * width), 1)
            step = min(fitting, masks_per_shard(height, width))
            pixels = np.empty((0, height, width, 3), dtype=np.uint8)
            known: _Known = ()
            while left:
                if not len(pixels):
                    pixels, known = _stacked(islice(reading, min(step, len(left))))
                batch = left[: min(step, len(pixels))]
                count = len(batch)
                labels = np.array([image.label for image in batch], dtype=np.int8)
                try:
                    dense = None
                    if features is not None and _suits(batch[0]):
                        dense = features.completed(known[:count], pixels[:count])
                    prediction = predictor.predict(pixels[:count], labels, dense)
                except torch.OutOfMemoryError as error:
                    if step == 1:
                        raise out_of_memory(predictor.device) from error
                    step //= 2
                    continue
                yield batch, prediction
                left, pixels, known = left[count:], pixels[count:], known[count:]


def _suits(image: ImageRecord) -> bool:
    """Tell whether the maps of an image are made of its features as a whole."""
    return image.height * image.width <= DEFAULT_WINDOWS.pixels


def _known(image: ImageRecord, features: DenseFeatures | None) -> Features | None:
    return features.known(image.content_hash) if features and _suits(image) else None


def _stacked(
    read: Iterable[tuple[NDArray[np.uint8], Features | None]],
) -> tuple[NDArray[np.uint8], _Known]:
    pixels, known = zip(*read, strict=True)
    return np.stack(pixels), known


def _size(image: ImageRecord) -> tuple[int, int]:
    return image.height, image.width
