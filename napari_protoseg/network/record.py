"""What a model is, beside its weights: enough to build it again anywhere."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.schema import ClassSchema


class ModelKind(StrEnum):
    """Which model."""

    PROTOTYPES = "prototypes"
    EVIDENCE = "evidence"
    PLAIN_CAM = "plain-cam"
    SEGMENTATION = "segmentation"

    @property
    def has_prototypes(self) -> bool:
        """Whether its maps are of prototypes, not of whole classes."""
        return self in (ModelKind.PROTOTYPES, ModelKind.EVIDENCE)


class ModelRecord(BaseModel):
    """What a checkpoint says of its model.

    Parameters
    ----------
    kind
        Which model it is.
    classes
        Its classes.
    class_positions
        Position in the schema of the class of each prototype.
    backbone
        Name of the backbone; None for the frozen evidence.
    cosine, competing
        As in `PrototypeNetwork`.
    encoder
        Encoder of the prototypes; None for a model without.
    bank
        Fingerprint of the bank; None for a model without prototypes.
    micrometres_per_pixel
        Median pixel size of the images that it was trained on, None where not known.
    decoder
        Of a segmentation network; None for any other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ModelKind
    classes: ClassSchema
    class_positions: tuple[int, ...]
    backbone: str | None = None
    cosine: bool = False
    competing: bool = False
    encoder: EncoderIdentity | None = None
    bank: str | None = None
    micrometres_per_pixel: float | None = None
    decoder: Decoder | None = None

    def goes_on(self, earlier: ModelRecord) -> bool:
        """Tell whether `earlier` is the same model, however its classes were called and drawn."""
        named_alike = earlier.model_copy(update={"classes": self.classes})
        same_classes = self.classes.ids == earlier.classes.ids
        return named_alike == self and same_classes and self.classes.extends(earlier.classes)
