"""What one pass of a transformer over a large image costs, by the side of the image.

    large_images.py [--sides 1024,2048,4096] [--evidence ENCODER]

Makes a mask of a square of synthetic tissue for each side, with MiT-B1 and prototypes, or with the
frozen evidence of an encoder of timm, all with random weights, each in a process of its own. Prints
the memory beyond that after the network was made, the seconds, and how many times those of the side
before that is. Four times the pixels can take sixteen times as long: minutes for 4096 on a CPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from napari_protoseg.encoders.encoder import empty_encoder
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

_TILE = 512
_CLASS_POSITIONS = tuple(np.repeat(range(len(TISSUE_SCHEMA.ids)), 2).tolist())


def tissue(side: int) -> NDArray[np.uint8]:
    """Return an image of equal tiles, ``(side, side, 3)``."""
    count = -(-side // _TILE)
    tile = synthesize_tile(0, 0, 0, size=_TILE).image
    image: NDArray[np.uint8] = np.tile(tile, (count, count, 1))[:side, :side]
    return image


def network() -> PrototypeNetwork:
    """Return MiT-B1 with random weights and prototypes."""
    prototypes = torch.randn(len(_CLASS_POSITIONS), 64)
    backbone, classes = create_backbone("mit_b1"), len(TISSUE_SCHEMA.ids)
    return PrototypeNetwork(backbone, prototypes, _CLASS_POSITIONS, classes, cosine=True)


def evidence(name: str) -> EvidenceModel:
    """Return the frozen evidence of an encoder of timm with random weights and prototypes."""
    with torch.device("meta"):
        published: Any = timm.create_model(name)
    width, stride = published.num_features, published.patch_embed.patch_size[0]
    identity = EncoderIdentity(
        name=name,
        weights_sha256="0" * 64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        width=width,
        stride=stride,
        licence="none",
    )
    prototypes = torch.randn(len(_CLASS_POSITIONS), width)
    encoder = empty_encoder(identity)
    return EvidenceModel(encoder, prototypes, _CLASS_POSITIONS, len(TISSUE_SCHEMA.ids))


def cost(side: int, encoder: str | None) -> tuple[float, float]:
    """Return the seconds and the bytes that a mask takes."""
    torch.manual_seed(0)
    model: MapModel = network() if encoder is None else evidence(encoder)
    recipe, device = Recipe(flip=False), torch.device("cpu")
    predictor = Predictor(model.eval(), TISSUE_SCHEMA.ids, recipe, device)
    image = tissue(side)
    before, start = _most_memory(), time.perf_counter()
    predictor.predict(image[None])
    return time.perf_counter() - start, _most_memory() - before


def _most_memory() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Print a line for each side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", default="1024,2048,4096", help="pixels, comma separated")
    parser.add_argument("--evidence", metavar="ENCODER", help="frozen evidence of this encoder")
    options = parser.parse_args()
    print(options.evidence or "mit_b1")
    before = None
    for side in map(int, options.sides.split(",")):
        with multiprocessing.get_context("spawn").Pool(1) as own_process:
            seconds, memory = own_process.apply(cost, (side, options.evidence))
        longer = "" if before is None else f", {seconds / before:.1f} x as long"
        print(
            f"  {side} x {side}: {memory / side**2:.0f} bytes a pixel, {seconds:.1f} s{longer}",
            flush=True,
        )
        before = seconds


if __name__ == "__main__":
    main()
