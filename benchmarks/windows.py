"""How far masks of a transformer, computed in windows, agree with those of a single pass.

    windows.py [--height 640] [--width 640] [--side 512] [--seeds 0,1,2,3]

For each seed: MiT-B1 with random weights and prototypes over an image of synthetic tissue, once
as a whole and once in windows of the area of a square of SIDE. Prints the part of the pixels
that got the same class, and that of the most frequent class, which any two such masks might share.

Windows of the product have a side of 4096. An image above that, ``--height 4480 --width 4480
--side 4096``, takes about 20 minutes and 10 GB for each seed; the default takes seconds, and is
harder, since the edges of a window weigh more and the image exceeds it by more.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import REFERENCE
from napari_protoseg.masks.windows import WideWindows, Windows
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.synthesis.tiles import synthesize_tile

_TILE = 320
_CLASS_POSITIONS = (0, 0, 1, 1, 2)


def tissue(height: int, width: int) -> NDArray[np.uint8]:
    """Return an image of different tiles side by side, ``(height, width, 3)``."""
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    tiles = [synthesize_tile(0, 0, n, size=_TILE).image for n in range(rows * columns)]
    whole = [np.concatenate(tiles[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    image: NDArray[np.uint8] = np.concatenate(whole)[:height, :width]
    return image


def masks(seed: int, image: NDArray[np.uint8], windows: Windows | WideWindows) -> NDArray[np.uint8]:
    """Return the mask of `image` by the random network of `seed`."""
    torch.manual_seed(seed)
    prototypes = torch.randn(len(_CLASS_POSITIONS), 64)
    backbone = create_backbone("mit_b1")
    model = PrototypeNetwork(backbone, prototypes, _CLASS_POSITIONS, 3, cosine=False)
    # In the recipe of the released code random weights give masks of several classes.
    recipe = REFERENCE.model_copy(update={"flip": False, "intensities": (1.0,)})
    predictor = Predictor(model, (1, 2, 3), recipe, torch.device("cpu"), windows)
    mask: NDArray[np.uint8] = predictor.predict(image[None]).masks[0]
    return mask


def main() -> None:
    """Print the agreement for each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=640, help="of the image, pixels")
    parser.add_argument("--width", type=int, default=640, help="of the image, pixels")
    parser.add_argument("--side", type=int, default=512, help="of a window, pixels")
    parser.add_argument("--seeds", default="0,1,2,3", help="comma separated")
    options = parser.parse_args()
    image = tissue(options.height, options.width)
    if image.shape[0] * image.shape[1] <= options.side**2:
        parser.error("this image is computed in one pass: make it larger, or the windows smaller")
    one_pass = WideWindows(side=max(image.shape))
    print(f"{options.height} x {options.width} px in windows of {options.side} x {options.side}:")
    for seed in map(int, options.seeds.split(",")):
        whole = masks(seed, image, one_pass)
        agreement = (masks(seed, image, WideWindows(options.side)) == whole).mean()
        chance = np.bincount(whole.ravel()).max() / whole.size
        print(f"  seed {seed}: {agreement:.4f} (most frequent class {chance:.2f})", flush=True)


if __name__ == "__main__":
    main()
