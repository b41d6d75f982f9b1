"""What a training was begun on: fingerprints of its images, their labels and its held-out part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict

Labelled = tuple[str, tuple[int, ...]]
"""Hash of the content of an image, and its image-level label."""


class DataFingerprint(BaseModel):
    """Tells whether a training goes on with the data that it was begun on.

    Parameters
    ----------
    images
        SHA-256 of the content hashes of the images trained on, in order.
    labels
        Of their labels.
    held_out
        Of content hashes and labels of those that are looked at after each epoch.
    masked
        Of the content hashes of those whose masks decide on the best epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str
    labels: str
    held_out: str
    masked: str

    @classmethod
    def of(
        cls, images: Sequence[Labelled], held_out: Iterable[Labelled], masked: Iterable[str]
    ) -> Self:
        """Return that of images with labels, held-out ones, and hashes of those with masks."""
        return cls(
            images=_sha256([content for content, _ in images]),
            labels=_sha256([label for _, label in images]),
            held_out=_sha256(list(held_out)),
            masked=_sha256(list(masked)),
        )

    def changes_since(self, earlier: DataFingerprint) -> list[str]:
        """Name what is not as it was, for a person."""
        changes = {
            "the images to train on": self.images != earlier.images,
            # Those of other images say nothing.
            "their labels": self.images == earlier.images and self.labels != earlier.labels,
            "the held-out images": self.held_out != earlier.held_out,
            "the images with masks": self.masked != earlier.masked,
        }
        return [name for name, is_other in changes.items() if is_other]


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
