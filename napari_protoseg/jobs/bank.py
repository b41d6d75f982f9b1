"""The job that builds a project's prototype bank."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_protoseg.bank.bank import BankConfig, PrototypeBank, build_bank
from napari_protoseg.bank.codec import encoded_bank, read_bank
from napari_protoseg.encoders.encoder import create_encoder
from napari_protoseg.encoders.encoding import embed_images
from napari_protoseg.encoders.passes import EncodeItem, ReadImage
from napari_protoseg.encoders.registry import DEFAULT_ENCODER, KNOWN_MODELS, licence_of
from napari_protoseg.errors import BankError
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.images.ahead import read_ahead
from napari_protoseg.images.tissue import white_fraction
from napari_protoseg.jobs.features import CACHE_BYTES, feature_cache
from napari_protoseg.jobs.made_of import MadeOf, bank_images
from napari_protoseg.jobs.records import read_recorded, reader_of
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import BankRow, ImageRecord, Split

BATCH_SIZE = 16

_AHEAD_PIXELS = 2**22
"""Of the images that threads read ahead."""

_OTHER_SCALE = 1.5
"""From how many times the size of an encoder's pixels on those of the images differ enough."""


class BankRequest(BaseModel):
    """What is asked of the job.

    Parameters
    ----------
    config
        How the bank is built.
    encoder
        Name of the encoder.
    encoder_weights
        Its weights file; the default encoder needs none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: BankConfig = BankConfig()
    encoder: str = DEFAULT_ENCODER
    encoder_weights: Path | None = None


class BankSummary(BaseModel):
    """What a project records of a bank beside its file.

    Parameters
    ----------
    encoder
        Name of the encoder.
    encoder_weights
        File that its weights were read from, None for packaged ones.
    prototypes
        Number of prototypes of each class, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    encoder_weights: Path | None
    prototypes: dict[str, int]


@dataclass(frozen=True)
class BuiltBank:
    """A bank of the project."""

    version: int
    path: Path
    bank: PrototypeBank


def build_project_bank(
    project: Project,
    request: BankRequest,
    *,
    device: torch.device,
    now: datetime,
    cache_bytes: int = CACHE_BYTES,
) -> Job[BuiltBank | None]:
    """Cluster the training images of each class, and record the bank as a new version.

    Parameters
    ----------
    project, request
        Where, and how.
    device, now
        Where it computes; date of the bank.
    cache_bytes
        Size that the cache of features may grow to.

    Returns
    -------
    BuiltBank or None
        None after a stop: nothing is recorded, what was encoded stays cached.

    Raises
    ------
    BankError
        There are no training images, a class has none to make prototypes of, or the numbers of
        prototypes do not fit the classes.
    WeightsError, ImageError, StorageError
    """
    project.require_writable()
    if not project.images(Split.TRAIN):
        raise BankError(
            "no training image, only ones to validate on",
            where=project.folder,
            remedy="Add images to train on.",
            on_terminal="protoseg new --split FILE says which ones are",
        )
    # Labels and classes may change while it runs: it is made of those of now, and says so.
    images, schema = bank_images(project), project.schema
    made_of = MadeOf.of(project, images)
    request.config.clusters_of(schema)  # what cannot be is refused before the long work
    licence = licence_of(request.encoder)
    severity = Severity.INFO if licence.commercial else Severity.WARNING
    yield Notice(f"Encoder {request.encoder}. {licence.notice}", severity)
    scale = _notice_of_scale(images, request.encoder)
    if scale is not None:
        yield scale
    encoder = create_encoder(request.encoder, request.encoder_weights, device=device)
    cache = feature_cache(project, cache_bytes)
    white: dict[str, float] = {}
    embeddings = yield from embed_images(
        encoder,
        encode_items(images),
        cache,
        batch_size=BATCH_SIZE,
        read=_noting_glass(images, white),
    )
    if embeddings is None or (yield from _look_for_glass(images, white)) is Request.STOP:
        return None
    bank = build_bank(
        embeddings,
        np.array([image.label for image in images], dtype=np.int8),
        np.array([white[image.content_hash] for image in images]),
        [image.content_hash for image in images],
        schema,
        encoder.identity,
        request.config,
        created=now.isoformat(),
        micrometres_per_pixel=[image.micrometres_per_pixel for image in images],
    )
    for notice in bank.notices:
        yield Notice(notice, Severity.WARNING)
    weights = request.encoder_weights
    summary = BankSummary(
        encoder=request.encoder,
        encoder_weights=None if weights is None else weights.resolve(),
        prototypes=dict(zip(schema.names, bank.clusters_per_class, strict=True)),
    )
    row = project.add_bank(
        encoded_bank(bank),
        summary.model_dump_json(),
        schema.fingerprint,
        created=now,
        made_of_json=made_of.model_dump_json(),
    )
    return BuiltBank(row.version, row.path, bank)


def _noting_glass(images: Sequence[ImageRecord], white: dict[str, float]) -> ReadImage:
    """Return what reads `images`, and adds the share of glass of each content to `white`."""
    hashes = {image.path: image.content_hash for image in images}
    read = reader_of(images)

    def noting(path: Path) -> NDArray[np.uint8]:
        pixels = read(path)
        white[hashes[path]] = white_fraction(pixels)
        return pixels

    return noting


def _look_for_glass(images: Sequence[ImageRecord], white: dict[str, float]) -> Job[Request | None]:
    """Read those images that were not read to be encoded, for their share of glass."""
    unread = [image for image in images if image.content_hash not in white]
    shares = read_ahead(
        lambda image: white_fraction(read_recorded(image)),
        unread,
        cost=lambda image: image.height * image.width,
        most=_AHEAD_PIXELS,
    )
    with closing(shares):
        for number, (image, share) in enumerate(zip(unread, shares, strict=True), start=1):
            white[image.content_hash] = share
            if (yield Progress("Looking for glass", number, len(unread))) is Request.STOP:
                return Request.STOP
    return None


def latest_bank(project: Project) -> tuple[BuiltBank, BankSummary]:
    """Return the newest bank of the project.

    Raises
    ------
    BankError
        There is none, or its file is damaged.
    """
    row = project.latest_bank()
    if row is None:
        raise BankError(
            "has no prototype bank yet",
            where=project.folder,
            remedy="Build one.",
            on_terminal=f"protoseg bank {project.folder}",
        )
    return bank_of_version(project, row.version), summary_of(row)


def summary_of(row: BankRow) -> BankSummary:
    """Return what a project records of a bank beside its file.

    Raises
    ------
    BankError
        The record is damaged.
    """
    try:
        return BankSummary.model_validate_json(row.summary_json)
    except ValidationError as error:
        raise BankError(
            "the record of this bank is damaged, or of another version of this program",
            where=row.path,
            remedy="Build the bank again.",
        ) from error


def bank_of_version(project: Project, version: int) -> BuiltBank:
    """Return a bank of the project, the newest or an older one.

    Raises
    ------
    ProjectError
        There is no such version.
    BankError
        Its file is damaged.
    """
    row = project.bank(version)
    return BuiltBank(row.version, row.path, read_bank(row.path))


def encode_items(images: tuple[ImageRecord, ...]) -> list[EncodeItem]:
    """Name `images` as the encoders take them."""
    return [
        EncodeItem(image.path, image.content_hash, image.height, image.width) for image in images
    ]


def _notice_of_scale(images: tuple[ImageRecord, ...], encoder: str) -> Notice | None:
    """Say so where the images' pixels are of another size than those that the encoder knows."""
    known = KNOWN_MODELS.get(encoder)
    sizes = [i.micrometres_per_pixel for i in images if i.micrometres_per_pixel is not None]
    if known is None or known.publication is None or not sizes:
        return None
    theirs, ours = known.publication.micrometres_per_pixel, float(np.median(sizes))
    if max(theirs / ours, ours / theirs) < _OTHER_SCALE:
        return None
    return Notice(
        f"{known.publication.title} is meant for {theirs:.3g} micrometres per pixel, and these "
        f"images have {ours:.3g}: its features may tell less.",
        Severity.WARNING,
    )
