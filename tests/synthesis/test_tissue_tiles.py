"""Synthetic tiles: the same everywhere, exact masks, textures that tell classes apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_protoseg.errors import ImageError
from napari_protoseg.synthesis.noise import smooth_noise
from napari_protoseg.synthesis.sample import TRAINING_CASES, VALIDATION_CASES, image_label
from napari_protoseg.synthesis.stain import draw_stain, scan
from napari_protoseg.synthesis.tiles import Region, SyntheticTile, synthesize_tile
from napari_protoseg.synthesis.tissue import APPEARANCES, CLASS_OF, TISSUE_SCHEMA, Appearance

_TISSUES = [look for look in Appearance if look is not Appearance.GLASS]


def _filled(look: Appearance, tile: int = 0) -> SyntheticTile:
    return synthesize_tile(3, 0, tile, regions=(Region(look, 1.0),))


def _texture(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Contrast of the green channel at four scales: what colour alone does not say."""
    green = image[..., 1].astype(float)
    steps = (1, 3, 6, 12)
    return np.array([np.abs(green[s:, s:] - green[:-s, :-s]).mean() for s in steps])


def _description(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.concatenate([_texture(image), image.mean(axis=(0, 1))])


def test_the_same_numbers_give_the_same_pixels() -> None:
    first, second = synthesize_tile(5, 2, 7), synthesize_tile(5, 2, 7)

    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)


@pytest.mark.parametrize("numbers", [(6, 2, 7), (5, 3, 7), (5, 2, 8)])
def test_another_seed_case_or_tile_is_other_tissue(numbers: tuple[int, int, int]) -> None:
    tile, other = synthesize_tile(5, 2, 7), synthesize_tile(*numbers)

    assert (tile.image != other.image).mean() > 0.5
    assert not np.array_equal(tile.mask, other.mask)


@pytest.mark.parametrize("size", [32, 100, 224, 300])
def test_a_tile_has_the_size_asked_for(size: int) -> None:
    tile = synthesize_tile(1, 0, 0, size=size)

    assert tile.image.shape == (size, size, 3)
    assert tile.mask.shape == (size, size)
    assert tile.image.dtype == tile.mask.dtype == np.uint8


@pytest.mark.parametrize(
    ("seed", "case", "tile", "size"), [(-1, 0, 0, 64), (0, -1, 0, 64), (0, 0, -1, 64), (0, 0, 0, 8)]
)
def test_impossible_numbers_are_refused(seed: int, case: int, tile: int, size: int) -> None:
    with pytest.raises(ImageError, match="at least"):
        synthesize_tile(seed, case, tile, size=size)


@pytest.mark.parametrize("look", list(Appearance))
def test_a_tile_of_one_appearance_is_of_its_class_everywhere(look: Appearance) -> None:
    assert set(np.unique(_filled(look).mask)) == {CLASS_OF[look]}


def test_glass_is_near_white_and_tissue_is_not() -> None:
    assert _filled(Appearance.GLASS).image.min() > 220
    assert all(_filled(look).image.mean() < 215 for look in _TISSUES)


@pytest.mark.parametrize("class_id", TISSUE_SCHEMA.ids)
def test_the_two_appearances_of_a_class_differ_more_than_tiles_of_one(class_id: int) -> None:
    here, there = (
        np.array([_description(_filled(look, tile).image) for tile in range(5)])
        for look in APPEARANCES[class_id]
    )

    gap = np.abs(here.mean(axis=0) - there.mean(axis=0))
    within = np.sqrt((here.var(axis=0, ddof=1) + there.var(axis=0, ddof=1)) / 2)
    assert (gap > 3 * within).any()


def test_texture_tells_classes_apart_better_than_mean_colour_does() -> None:
    colors, textures, classes, cases = [], [], [], []
    for case in range(6):
        for look in _TISSUES:
            image = synthesize_tile(3, case, 0, size=112, regions=(Region(look, 1.0),)).image
            colors.append(image.reshape(-1, 3).mean(axis=0))
            textures.append(_texture(image))
            classes.append(CLASS_OF[look])
            cases.append(case)
    truth, slide = np.array(classes), np.array(cases)

    def agreement(points: list[NDArray[np.float64]]) -> float:
        """Share of tiles whose nearest neighbour on another slide is of the same class."""
        distance = np.abs(np.array(points)[:, None] - np.array(points)).sum(axis=-1)
        distance[slide[:, None] == slide] = np.inf
        return float((truth[distance.argmin(axis=1)] == truth).mean())

    assert agreement(colors) < 0.8
    assert agreement(textures) > agreement(colors) + 0.1


def test_regions_get_their_share_of_the_area() -> None:
    regions = (
        Region(Appearance.SOLID_TUMOR, 0.5),
        Region(Appearance.DENSE_STROMA, 0.3),
        Region(Appearance.GLASS, 0.2),
    )

    mask = synthesize_tile(0, 0, 0, regions=regions).mask

    shares = [(mask == CLASS_OF[region.appearance]).mean() for region in regions]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.05)


def test_nuclei_at_a_border_are_whole_and_belong_to_their_class() -> None:
    tile = synthesize_tile(
        4, 0, 0, regions=(Region(Appearance.PACKED_LYMPHOCYTES, 0.5), Region(Appearance.GLASS, 0.5))
    )
    dark = tile.image[..., 0] < 0.55 * tile.image[..., 0].max()

    # No part of a nucleus, beyond the blur of its edge, lies on what the mask calls glass.
    assert (dark & (tile.mask == 0)).sum() < 0.01 * dark.sum()


def test_light_falls_with_dye_by_the_law_of_beer_and_lambert_and_the_scanner_adds_noise() -> None:
    densities = np.full((40, 40), 0.5)
    stain = draw_stain(np.random.default_rng(0))

    one = scan(densities, densities, stain, np.random.default_rng(1)).astype(int)
    other = scan(densities, densities, stain, np.random.default_rng(2)).astype(int)

    assert 0 < np.abs(one - other).mean() < 4
    expected = stain.lamp * np.exp(-0.5 * (stain.haematoxylin + stain.eosin))
    assert one.mean(axis=(0, 1)) == pytest.approx(expected, abs=0.3)


def test_most_tiles_are_mixed_and_about_three_in_ten_show_one_class() -> None:
    counts = [sum(image_label(synthesize_tile(9, n % 8, n // 8, size=64).mask)) for n in range(120)]

    assert 0.2 < np.mean(np.array(counts) == 1) < 0.42
    assert set(counts) == {1, 2, 3}


def test_no_class_has_a_place_of_its_own() -> None:
    masks = np.stack([synthesize_tile(9, 0, n, size=64).mask for n in range(160)])

    for class_id in TISSUE_SCHEMA.ids:
        share = (masks == class_id).mean(axis=0)
        quarters = share.reshape(2, 32, 2, 32).mean(axis=(1, 3))
        assert np.abs(quarters - quarters.mean()).max() < 0.1


def test_borders_are_curved_regions_and_not_single_pixels() -> None:
    mask = synthesize_tile(
        2, 1, 0, regions=(Region(Appearance.GHOST_NECROSIS, 0.5), Region(Appearance.GLASS, 0.5))
    ).mask

    assert ndimage.label(mask)[1] < 20


def test_every_case_has_a_stain_of_its_own() -> None:
    collagen = (Region(Appearance.DENSE_STROMA, 1.0),)
    cases = [*TRAINING_CASES, *VALIDATION_CASES]
    means = np.array(
        [
            synthesize_tile(0, case, 0, size=64, regions=collagen).image.mean(axis=(0, 1))
            for case in cases
        ]
    )

    distance = np.abs(means[:, None] - means[None]).sum(axis=-1)[np.triu_indices(len(cases), 1)]
    assert not set(TRAINING_CASES) & set(VALIDATION_CASES)
    assert distance.min() > 1
    assert distance.max() > 30


def test_smooth_noise_is_standardised_and_smooth() -> None:
    field = smooth_noise(np.random.default_rng(0), (600, 600), 6)

    assert field.mean() == pytest.approx(0, abs=0.05)
    assert field.std() == pytest.approx(1, abs=0.05)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.2
