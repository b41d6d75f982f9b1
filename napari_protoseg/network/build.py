"""Building a model from its record."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from napari_protoseg.encoders.encoder import FrozenEncoder, empty_encoder
from napari_protoseg.encoders.weights import Weights
from napari_protoseg.errors import CheckpointError
from napari_protoseg.network.backbones import Backbone, create_backbone
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.network.segmentation import SegmentationNetwork


def create_model(
    record: ModelRecord,
    *,
    prototypes: Tensor | None = None,
    backbone_weights: Weights | None = None,
    encoder: FrozenEncoder | None = None,
) -> MapModel:
    """Make the model that `record` tells of.

    Parameters
    ----------
    record
        What the model is.
    prototypes
        ``(P, d)``; for a model that has some.
    backbone_weights
        None for random ones.
    encoder
        For the frozen evidence.

    Raises
    ------
    CheckpointError
        The record lacks what its kind of model needs, or does not fit the prototypes.
    WeightsError
        There is no such backbone, or the weights belong to another one.
    """
    classes = len(record.classes.classes)
    positions = record.class_positions
    if record.kind is ModelKind.PLAIN_CAM:
        backbone = _backbone(record, backbone_weights)
        return PlainCam(backbone, classes, competing=record.competing)
    if record.kind is ModelKind.SEGMENTATION:
        if record.decoder is None:
            raise _incomplete(record)
        return SegmentationNetwork(_backbone(record, backbone_weights), record.decoder, classes)
    if prototypes is None or (record.kind is ModelKind.EVIDENCE and encoder is None):
        raise _incomplete(record)
    if len(positions) != len(prototypes) or not set(positions) <= set(range(classes)):
        raise CheckpointError(
            "its record does not name a class for each prototype",
            where=f"model of kind {record.kind.value}",
            remedy="Train again.",
        )
    if record.kind is ModelKind.EVIDENCE:
        assert encoder is not None
        return EvidenceModel(encoder, prototypes, positions, classes, competing=record.competing)
    backbone = _backbone(record, backbone_weights)
    return PrototypeNetwork(
        backbone,
        prototypes,
        positions,
        classes,
        cosine=record.cosine,
        competing=record.competing,
    )


def empty_model(record: ModelRecord, weights: Mapping[str, Tensor]) -> MapModel:
    """Make the model that `record` tells of, to load all of its `weights` into.

    Raises
    ------
    CheckpointError, WeightsError
    """
    _refuse_larger(record, weights)
    stored = weights.get("prototypes")
    encoder = None
    if record.kind is ModelKind.EVIDENCE and record.encoder is not None:
        encoder = empty_encoder(record.encoder)
    prototypes = None if stored is None else torch.zeros_like(stored)
    return create_model(record, prototypes=prototypes, encoder=encoder)


def _refuse_larger(record: ModelRecord, weights: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError`, before memory is taken, for a network larger than its weights."""
    network: nn.Module
    with torch.device("meta"):
        if record.kind is not ModelKind.EVIDENCE:
            network = _backbone(record, None)
        elif record.encoder is not None:
            network = empty_encoder(record.encoder)
        else:
            return
    wanted = sum(tensor.numel() for tensor in network.state_dict().values())
    if wanted > sum(tensor.numel() for tensor in weights.values()):
        raise CheckpointError(
            f"its weights are not those of the model that it names, which has {wanted:,}",
            where=f"model of kind {record.kind.value}",
            remedy="Train again, or name another round's checkpoint.",
        )


def _backbone(record: ModelRecord, weights: Weights | None) -> Backbone:
    if record.backbone is None:
        raise _incomplete(record)
    return create_backbone(record.backbone, weights)


def _incomplete(record: ModelRecord) -> CheckpointError:
    return CheckpointError(
        "its record lacks what this kind of model needs",
        where=f"model of kind {record.kind.value}",
        remedy="Train again.",
    )
