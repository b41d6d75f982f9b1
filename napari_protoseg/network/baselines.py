"""What the prototype network is measured against: a plain class activation map."""

from __future__ import annotations

from torch import Tensor, nn

from napari_protoseg.network.backbones import Backbone
from napari_protoseg.network.maps import MapModel


class PlainCam(MapModel):
    """Class activation maps of a linear classifier on the last stage (Zhou et al. 2016).

    Each class is its own single prototype; by the usual training the mean of its map is its logit.
    """

    def __init__(self, backbone: Backbone, classes: int, *, competing: bool = False) -> None:
        super().__init__(range(classes), classes, backbone.strides[-1:], competing=competing)
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.widths[-1], classes, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the class activation maps of the last stage."""
        return (self.classifier(self.backbone(images)[-1]),)
