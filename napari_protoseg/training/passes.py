"""Passes of images through a network without training it, in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from napari_protoseg.encoders.passes import ReadImage
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.devices import out_of_memory
from napari_protoseg.training.images import Batch, TrainingImage, plain_batches

Seen = TypeVar("Seen")


class Pieces:
    """How many images of a batch go through a network at once: fewer once memory was short.

    Parameters
    ----------
    size
        To begin with.
    device
        Whose memory it is.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device

    def halve(self, images: int, error: torch.OutOfMemoryError) -> Notice:
        """Take half as many as before of a batch of `images`, and return what to say of it.

        Raises
        ------
        TrainingError
            It was a single one.
        """
        if self.size == 1:
            raise out_of_memory(self.device) from error
        self.size = -(-min(self.size, images) // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return Notice(
            f"Memory is short: going on with {self.size} "
            f"image{'s' if self.size > 1 else ''} at once. "
            "The steps stay the same, and take longer.",
            Severity.WARNING,
        )


def look_through(
    images: Sequence[TrainingImage],
    read: ReadImage,
    look: Callable[[Batch], Seen],
    pieces: Pieces,
    config: TrainingConfig,
    *,
    stage: str,
) -> Job[list[Seen] | None]:
    """Look at images in order, not augmented, batch by batch.

    Parameters
    ----------
    images, read
        What is read how.
    look
        Is given each piece of a batch, on the device, and keeps no gradient.
    pieces
        How large they are.
    config
        Says how large a batch is: it decides how images are padded.
    stage
        What is being done, for the progress.

    Returns
    -------
    list or None
        What was seen in each piece; None after a stop.

    Raises
    ------
    TrainingError
        Memory is not enough for a single image.
    ImageError, StorageError
    """
    seen: list[Seen] = []
    done = 0
    size, side = config.batch_size, config.max_side
    for batch in plain_batches(images, read, batch_size=size, max_side=side):
        whole = batch.to(pieces.device)
        in_pieces = None
        while in_pieces is None:
            try:
                with torch.inference_mode():
                    in_pieces = [look(piece) for piece in whole.split(pieces.size)]
            except torch.OutOfMemoryError as error:
                notice = pieces.halve(len(whole.images), error)
            if in_pieces is None and (yield notice) is Request.STOP:
                return None
        seen += in_pieces
        done += len(whole.images)
        if (yield Progress(stage, done, len(images))) is Request.STOP:
            return None
    return seen
