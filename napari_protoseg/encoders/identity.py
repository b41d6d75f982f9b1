"""What makes two encoders the same: a record that banks and caches keep."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict

FEATURES_REVISION = 1
"""Raised whenever the same weights would give other features than before."""


class EncoderIdentity(BaseModel):
    """A frozen encoder with its weights and preprocessing.

    Parameters
    ----------
    name
        Name of the model, as given to `create_encoder`.
    weights_sha256
        Hash of the file of its weights, 64 hex digits.
    mean, std
        Normalisation of red, green and blue, in units of 0..1.
    width
        Number of channels of its last feature map, and length of its embeddings.
    stride
        Pixels of the image per position of the feature map, in both directions.
    licence
        Licence of the weights, in a few words.
    revision
        The `FEATURES_REVISION` of the program that computes the features.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    width: int
    stride: int
    licence: str
    revision: int = FEATURES_REVISION

    @property
    def fingerprint(self) -> str:
        """Hash over everything that decides the features: all but the licence (16 hex digits)."""
        text = self.model_dump_json(exclude={"licence"})
        return hashlib.sha256(text.encode()).hexdigest()[:16]
