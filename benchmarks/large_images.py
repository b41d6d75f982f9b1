"""How far masks of a transformer, computed thriftily, agree with those of all there is to see.

    large_images.py [--height 1280] [--width 1280] [--seeds 0,1,2,3] [--glass]
                    [--places 1024 [--trained EPOCHS] | --side 1024 --evidence ENCODER]

For each seed: MiT-B1 with prototypes over an image of synthetic tissue, attending once to all
places of it and once to PLACES at most; with ``--evidence`` the frozen evidence of an encoder of
timm, once of the whole image and once of windows of the area of a square of SIDE. Prints the part
of the pixels that got the same class, by the recipe of the released code and by the default one,
and that of the most frequent class, which any two such masks might share. Weights are random, or
those of MiT-B1 trained on labels of images (``--trained``: some minutes for each seed, prints the
loss it came to; all unlearned it is 1.46). ``--glass`` makes the right half of the image glass.

The product attends to 16384 places, and its windows have a side of 4096. An image above that takes
minutes to hours; the defaults take seconds, and are harder, since a mean over fewer places is
farther from that over all, and the edges of a smaller window weigh more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from napari_protoseg.encoders.encoder import empty_encoder
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import REFERENCE, Recipe
from napari_protoseg.masks.windows import WideWindows
from napari_protoseg.network import mix_transformer
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.synthesis.sample import image_label
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA
from napari_protoseg.training.config import PRESETS, Preset
from napari_protoseg.training.objective import classification_loss

# The recipe of the released code stretches each map to its whole range: an extreme anywhere changes
# it all. With the default one little decides where a network has learned little.
RECIPES = {
    "released recipe": REFERENCE.model_copy(update={"flip": False, "intensities": (1.0,)}),
    "default recipe": Recipe(flip=False),
}
_TILE = 320
_CLASS_POSITIONS = tuple(np.repeat(range(len(TISSUE_SCHEMA.ids)), 2).tolist())
_TRAINING_TILES, _TRAINING_SIDE, _BATCH, _RATE = 96, 128, 12, 3e-4


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


def train(model: PrototypeNetwork, epochs: int) -> None:
    """Train on which classes synthetic tiles show."""
    model.train()
    made = [synthesize_tile(1, n % 8, n, size=_TRAINING_SIDE) for n in range(_TRAINING_TILES)]
    images = torch.from_numpy(np.stack([tile.image for tile in made])).permute(0, 3, 1, 2) / 255
    labels = torch.tensor([image_label(tile.mask) for tile in made], dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    weights = PRESETS[Preset.STANDARD].stage_weights
    for _ in range(epochs):
        losses = []
        for some in torch.split(torch.randperm(len(made)), _BATCH):
            loss = classification_loss(model, model(images[some]), labels[some], weights)
            optimiser.zero_grad()
            (loss / labels[some].numel()).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
    print(f"  trained: loss {sum(losses) / labels.numel():.3f} in the last epoch", flush=True)
    model.eval()


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


@contextmanager
def attending_to(places: int) -> Iterator[None]:
    """Let mix transformers attend to so many places at most."""
    usual = mix_transformer.PLACES
    mix_transformer.PLACES = places
    try:
        yield
    finally:
        mix_transformer.PLACES = usual


def mask(model: MapModel, image: NDArray[np.uint8], recipe: Recipe, side: int) -> NDArray[np.uint8]:
    """Return the mask of `image`, in windows of the area of a square of `side`."""
    device = torch.device("cpu")
    predictor = Predictor(model, TISSUE_SCHEMA.ids, recipe, device, WideWindows(side))
    found: NDArray[np.uint8] = predictor.predict(image[None]).masks[0]
    return found


def main() -> None:
    """Print the agreement for each seed and recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=1280, help="of the image, pixels")
    parser.add_argument("--width", type=int, default=1280, help="of the image, pixels")
    parser.add_argument("--places", type=int, default=1024, help="attended to at most")
    parser.add_argument("--side", type=int, default=1024, help="of a window, pixels")
    parser.add_argument("--seeds", default="0,1,2,3", help="comma separated")
    parser.add_argument("--glass", action="store_true", help="make half of the image glass")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--trained", type=int, metavar="EPOCHS", help="train the network first")
    model.add_argument("--evidence", metavar="ENCODER", help="frozen evidence of this encoder")
    options = parser.parse_args()
    image = tissue(options.height, options.width)
    if options.glass:
        image[:, options.width // 2 :] = 245
    every, whole = options.height * options.width, max(image.shape)
    places, side = every, whole
    if options.evidence:
        side, thriftily = options.side, f"in windows of {options.side} x {options.side} px"
    else:
        places, thriftily = options.places, f"attending to {options.places} places"
    print(f"{options.height} x {options.width} px {thriftily}:")
    for seed in map(int, options.seeds.split(",")):
        if options.evidence:
            network: MapModel = evidence(options.evidence, seed)
        else:
            network = random_network(seed)
            if options.trained is not None:
                train(network, options.trained)
        for name, recipe in RECIPES.items():
            with attending_to(every):
                expected = mask(network, image, recipe, whole)
            with attending_to(places):
                agreement = (mask(network, image, recipe, side) == expected).mean()
            chance = np.bincount(expected.ravel()).max() / expected.size
            print(
                f"  seed {seed}, {name}: {agreement:.4f} (most frequent class {chance:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
