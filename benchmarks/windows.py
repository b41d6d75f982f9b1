"""How far masks of a transformer, computed in windows, agree with those of a single pass.

    windows.py [--height 640] [--width 640] [--side 512] [--seeds 0,1,2,3] [--glass]
               [--trained | --evidence ENCODER]

For each seed: MiT-B1 with prototypes over an image of synthetic tissue, once as a whole and once
in windows of the area of a square of SIDE. Prints the part of the pixels that got the same class,
and that of the most frequent class, which any two such masks might share. Weights are random, or
trained briefly (``--trained``: 80 steps on labels of images, some minutes for each seed, which
prints the loss it came to; all unlearned it is 1.46); ``--evidence`` takes the frozen evidence of
an encoder of timm instead, with random weights. ``--glass`` makes the right half of the image
glass.

Windows of the product have a side of 8192 for MiT, and one of 4096 for other networks. An image
above that takes hours; the default takes seconds, and is harder, since the edges of a window
weigh more and the image exceeds it by more.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from napari_protoseg.encoders.encoder import empty_encoder
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import REFERENCE
from napari_protoseg.masks.windows import WideWindows
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.synthesis.sample import image_label
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA
from napari_protoseg.training.config import PRESETS, Preset
from napari_protoseg.training.objective import classification_loss

_TILE = 320
_CLASS_POSITIONS = tuple(np.repeat(range(len(TISSUE_SCHEMA.ids)), 2).tolist())
_TRAINING_TILES, _TRAINING_SIDE, _BATCH, _EPOCHS, _RATE = 96, 128, 12, 10, 3e-4


def tissue(height: int, width: int) -> NDArray[np.uint8]:
    """Return an image of different tiles side by side, ``(height, width, 3)``."""
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    tiles = [synthesize_tile(0, 0, n, size=_TILE).image for n in range(rows * columns)]
    whole = [np.concatenate(tiles[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    image: NDArray[np.uint8] = np.concatenate(whole)[:height, :width]
    return image


def random_network(seed: int) -> PrototypeNetwork:
    """Return MiT-B1 with random weights and prototypes."""
    torch.manual_seed(seed)
    prototypes = torch.randn(len(_CLASS_POSITIONS), 64)
    backbone = create_backbone("mit_b1")
    classes = len(TISSUE_SCHEMA.ids)
    return PrototypeNetwork(backbone, prototypes, _CLASS_POSITIONS, classes, cosine=False)


def trained_network(seed: int) -> PrototypeNetwork:
    """Return MiT-B1, trained from random weights on which classes synthetic tiles show."""
    model = random_network(seed).train()
    made = [synthesize_tile(1, n % 8, n, size=_TRAINING_SIDE) for n in range(_TRAINING_TILES)]
    images = torch.from_numpy(np.stack([tile.image for tile in made])).permute(0, 3, 1, 2) / 255
    labels = torch.tensor([image_label(tile.mask) for tile in made], dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    weights = PRESETS[Preset.STANDARD].stage_weights
    for _ in range(_EPOCHS):
        losses = []
        for some in torch.split(torch.randperm(len(made)), _BATCH):
            loss = classification_loss(model, model(images[some]), labels[some], weights)
            optimiser.zero_grad()
            (loss / labels[some].numel()).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
    print(f"  trained: loss {sum(losses) / labels.numel():.3f} in the last epoch", flush=True)
    return model.eval()


def evidence(name: str, seed: int) -> EvidenceModel:
    """Return the frozen evidence of an encoder of timm with random weights and prototypes."""
    torch.manual_seed(seed)
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


def mask(model: MapModel, image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the mask of `image`, in windows of the area of a square of `side`."""
    # The recipe of the released code is the hard one: it stretches each map to its whole range, so
    # that masks of random weights have several classes, and an extreme anywhere changes them all.
    recipe = REFERENCE.model_copy(update={"flip": False, "intensities": (1.0,)})
    device = torch.device("cpu")
    predictor = Predictor(model, TISSUE_SCHEMA.ids, recipe, device, WideWindows(side))
    found: NDArray[np.uint8] = predictor.predict(image[None]).masks[0]
    return found


def main() -> None:
    """Print the agreement for each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=640, help="of the image, pixels")
    parser.add_argument("--width", type=int, default=640, help="of the image, pixels")
    parser.add_argument("--side", type=int, default=512, help="of a window, pixels")
    parser.add_argument("--seeds", default="0,1,2,3", help="comma separated")
    parser.add_argument("--glass", action="store_true", help="make half of the image glass")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--trained", action="store_true", help="train the network first")
    model.add_argument("--evidence", metavar="ENCODER", help="frozen evidence of this encoder")
    options = parser.parse_args()
    image = tissue(options.height, options.width)
    if options.glass:
        image[:, options.width // 2 :] = 245
    if image.shape[0] * image.shape[1] <= options.side**2:
        parser.error("this image is computed in one pass: make it larger, or the windows smaller")
    print(f"{options.height} x {options.width} px in windows of {options.side} x {options.side}:")
    for seed in map(int, options.seeds.split(",")):
        if options.evidence:
            network: MapModel = evidence(options.evidence, seed)
        else:
            network = trained_network(seed) if options.trained else random_network(seed)
        whole = mask(network, image, max(image.shape))
        agreement = (mask(network, image, options.side) == whole).mean()
        chance = np.bincount(whole.ravel()).max() / whole.size
        print(f"  seed {seed}: {agreement:.4f} (most frequent class {chance:.2f})", flush=True)


if __name__ == "__main__":
    main()
