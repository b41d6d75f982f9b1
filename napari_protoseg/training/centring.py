"""Where a network sees from: the centre of its features of some images, before its first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_protoseg.encoders.passes import ReadImage
from napari_protoseg.events import Job
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.devices import mixed_precision
from napari_protoseg.training.images import Batch, TrainingImage
from napari_protoseg.training.passes import Pieces, look_through

_MOST = 128
"""Images that a network is centred on."""


def centre(
    network: PrototypeNetwork,
    images: Sequence[TrainingImage],
    read: ReadImage,
    pieces: Pieces,
    config: TrainingConfig,
) -> Job[bool]:
    """Let a network see from the centre of some of `images`, each by its weight.

    Parameters
    ----------
    network
        On the device of `pieces`; left in training mode.
    images, read
        What is read how; at least one.
    pieces, config
        As for `look_through`.

    Returns
    -------
    bool
        False after a stop, which leaves its centre as it was.

    Raises
    ------
    TrainingError, ImageError, StorageError
    """

    def look(piece: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        with mixed_precision(pieces.device):
            return network.mean_directions(piece.images), piece.weights

    some = images[:: -(-len(images) // _MOST)]
    # Nothing random, so that a training that is stopped here goes on as if it had not been.
    network.eval()
    seen = yield from look_through(some, read, look, pieces, config, stage="Looking for a centre")
    network.train()
    if seen is None:
        return False
    directions, weights = zip(*seen, strict=True)
    of_stages = [torch.cat(parts) for parts in zip(*directions, strict=True)]
    network.centre_on(of_stages, torch.cat(weights))
    return True
