"""From class maps to masks: gating, background, merging, test-time augmentation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import ValidationError

from napari_protoseg.errors import ProjectError, StorageError
from napari_protoseg.masks.class_maps import PRESENCE_POWER
from napari_protoseg.masks.prediction import Prediction, Predictor, learn_margin
from napari_protoseg.masks.recipe import (
    REFERENCE,
    Background,
    LabelCondition,
    Normalisation,
    Recipe,
)
from napari_protoseg.masks.windows import Windows
from napari_protoseg.network.backbones import DEFAULT_BACKBONE, create_backbone
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.reduction import Merge

PLAIN = Recipe(flip=False, normalisation=Normalisation.MIN_MAX)
CPU = torch.device("cpu")


class ColourModel(MapModel):
    """A class for red and one for blue, at two stages; a class between them has no prototype.

    What lies to the left counts a little more, so that a mirror image gives other maps.
    """

    def __init__(self, offset: float = 0.25, classes: int = 3) -> None:
        super().__init__([0, 2], classes, (2, 4))
        self.offset = offset

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        excess = images[:, [0, 2]] - images[:, 1:2] - self.offset
        ramp = torch.linspace(1.0, 0.8, images.shape[3])
        return tuple(F.avg_pool2d(excess * ramp, stride) for stride in self.strides)


def picture(height: int = 16, width: int = 24) -> np.ndarray:
    """Red to the left, blue to the right, glass below them, and a black row at the bottom."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = 220, 40, 60
    image[:, width // 2 :] = 60, 50, 200
    image[height // 2 :] = 250
    image[-2:] = 0
    return image


def changed(**fields: object) -> Recipe:
    """Return the plain recipe with other values of some fields."""
    return PLAIN.model_copy(update=fields)


def predict(
    recipe: Recipe = PLAIN, labels: list[int] | None = None, image: np.ndarray | None = None
) -> Prediction:
    predictor = Predictor(ColourModel(), (7, 8, 9), recipe, CPU)
    images = (picture() if image is None else image)[None]
    given = None if labels is None else np.array([labels], np.int8)
    return predictor.predict(images, given)


def found(prediction: Prediction) -> set[int]:
    return set(np.unique(prediction.masks).tolist())


def test_a_mask_holds_class_ids_where_their_map_is_highest():
    got = predict()
    assert got.masks.dtype == np.uint8
    assert got.masks.shape == (1, 16, 24)
    assert (got.masks[0, :6, :10] == 7).all()
    assert (got.masks[0, :6, 14:] == 9).all()


def test_pixels_that_no_class_claims_are_unlabelled():
    got = predict()
    assert (got.masks[0, 12:] == 0).all()
    silent = Predictor(ColourModel(offset=2), (7, 8, 9), PLAIN, CPU).predict(picture()[None])
    assert found(silent) == {0}
    assert (silent.class_maps == 0).all()
    assert (silent.confidence == 0).all()


def test_confidence_is_the_lead_of_the_highest_map_and_0_where_unlabelled():
    got = predict(Recipe())
    assert got.confidence.dtype == np.float16
    assert 0 <= got.confidence.min() < got.confidence.max() <= 1
    assert (got.confidence[got.masks == 0] == 0).all()
    first, second = np.sort(got.class_maps, axis=1)[:, [-1, -2]].transpose(1, 0, 2, 3)
    labelled = got.masks > 0
    np.testing.assert_allclose(
        got.confidence[labelled], (first - second)[labelled], atol=1e-3, rtol=0
    )


def test_class_maps_and_probabilities_lie_in_0_to_1():
    for recipe in (REFERENCE, *(Recipe(normalisation=each) for each in Normalisation)):
        got = predict(recipe)
        assert got.class_maps.dtype == got.probabilities.dtype == np.float32
        assert got.class_maps.shape == (1, 3, 16, 24)
        assert got.class_maps.min() >= 0
        assert got.class_maps.max() <= 1 + 1e-6
        assert ((got.probabilities[:, [0, 2]] > 0) & (got.probabilities < 1)[:, [0, 2]]).all()
        assert (got.probabilities[:, 1] == 0).all(), "it has no prototype"


def test_an_absent_class_is_nowhere_and_an_unknown_one_may_be():
    assert found(predict(labels=[1, 0, 1])) == {0, 7, 9}
    assert found(predict(labels=[1, 0, 0])) == {0, 7}
    assert found(predict(labels=[0, 0, 0])) == {0}
    unknown, none = predict(labels=[-1, -1, -1]), predict()
    np.testing.assert_array_equal(unknown.masks, none.masks)
    np.testing.assert_array_equal(predict(labels=[1, 0, -1]).masks, none.masks)


def test_without_a_label_condition_labels_do_not_matter():
    free = changed(labels=LabelCondition.NONE)
    np.testing.assert_array_equal(predict(free, [0, 0, 0]).masks, predict().masks)


def test_a_predicted_gate_admits_what_the_model_finds_and_the_most_probable_at_least():
    gate = Recipe(flip=False, labels=LabelCondition.PREDICTED, normalisation=Normalisation.MIN_MAX)
    red = np.full((16, 24, 3), (230, 20, 40), np.uint8)
    red[:4, :4] = 40, 30, 200
    got = predict(gate, image=red)
    assert got.probabilities[0, 0] > 0.5 > got.probabilities[0, 2]
    assert found(got) <= {0, 7}
    assert 9 in found(predict(image=red)), "the gate is what keeps blue out"

    both_below = predict(gate)  # half of the picture is glass, so both means are negative
    assert (both_below.probabilities[0, [0, 2]] < 0.5).all()
    assert len(found(both_below) - {0}) == 1


def test_by_softmax_a_class_that_is_hardly_in_the_image_wins_fewer_pixels():
    recipe = changed(normalisation=Normalisation.SOFTMAX)
    free, weighed = (
        predict(recipe.model_copy(update={"labels": labels}))
        for labels in (LabelCondition.NONE, LabelCondition.PREDICTED)
    )
    more, less = np.argsort(free.probabilities[0, [0, 2]])[::-1] * 2
    np.testing.assert_allclose(weighed.class_maps[:, more], free.class_maps[:, more], atol=1e-6)
    ratio = free.probabilities[0, less] / free.probabilities[0, more]
    np.testing.assert_allclose(
        weighed.class_maps[:, less], free.class_maps[:, less] * ratio**PRESENCE_POWER, rtol=1e-4
    )
    ids = {0: 7, 2: 9}
    assert (weighed.masks == ids[int(less)]).sum() <= (free.masks == ids[int(less)]).sum()


def test_by_softmax_the_classes_share_each_pixel_and_those_that_may_not_appear_are_left_out():
    recipe = changed(normalisation=Normalisation.SOFTMAX)
    free = predict(recipe)
    np.testing.assert_allclose(free.class_maps.sum(1), 1, atol=1e-6)
    assert found(free) == {7, 9}, "of the pixels none is left out, glass neither"
    one = predict(recipe, [1, 0, 0])
    assert found(one) == {7}
    np.testing.assert_allclose(one.class_maps[:, 0], free.class_maps[:, 0], atol=1e-6)
    assert one.class_maps[0, 0, :6, :10].min() > one.class_maps[0, 0, :6, 14:].max()
    assert (one.class_maps[:, 1:] == 0).all()
    nothing = predict(recipe, [0, 0, 0])
    assert (nothing.class_maps == 0).all()
    assert found(nothing) == {0}


def test_by_softmax_stages_are_fused_before_classes_compete():
    """The class maps are the softmax of the mean logits, not the mean of two softmaxes."""

    class Constant(MapModel):
        def __init__(self) -> None:
            super().__init__([0, 1], 2, (4, 4))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            places = images[:, :2, ::4, ::4] * 0
            return places + torch.tensor([4.0, 0.0])[:, None, None], places

    recipe = changed(normalisation=Normalisation.SOFTMAX, stage_weights=(3.0, 1.0))
    got = Predictor(Constant(), (1, 2), recipe, CPU).predict(picture()[None])
    np.testing.assert_allclose(got.class_maps[0, 0], 1 / (1 + np.exp(-3)), atol=1e-6)


@pytest.mark.parametrize("normalisation", list(Normalisation))
@pytest.mark.parametrize("labels", list(LabelCondition))
def test_a_class_without_a_prototype_is_nowhere(
    normalisation: Normalisation, labels: LabelCondition
):
    recipe = Recipe(flip=False, normalisation=normalisation, labels=labels)
    got = predict(recipe, [1, 1, 1])
    assert 8 not in found(got)
    assert found(got) & {7, 9}
    assert (got.class_maps[:, 1] == 0).all()


def test_white_background_leaves_glass_unlabelled():
    recipe = Recipe(flip=False, normalisation=Normalisation.SIGMOID)
    assert 0 not in found(predict(recipe))
    got = predict(recipe.model_copy(update={"background": Background.WHITE}))
    assert (got.masks[0, 8:14] == 0).all()
    assert (got.confidence[0, 8:14] == 0).all()
    assert (got.masks[0, :8] > 0).all()


def test_a_margin_leaves_low_values_unlabelled():
    predictor = Predictor(
        ColourModel(), (7, 8, 9), Recipe(flip=False, background=Background.MARGIN), CPU
    )
    images = picture()[None]
    shares = []
    for margin in (0.0, 0.5, 0.9, 1.0):
        with_margin = predictor.with_margin(margin)
        assert with_margin.recipe.margin == margin
        got = with_margin.predict(images)
        highest = got.class_maps.max(1)
        np.testing.assert_array_equal(got.masks > 0, (highest > 0) & (highest >= margin))
        shares.append((got.masks > 0).mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[2]
    assert predictor.recipe.margin is None


def test_a_margin_is_learned_between_low_and_high_values():
    random = np.random.default_rng(0)
    low, high = random.uniform(0, 0.2, (2, 32, 32)), random.uniform(0.7, 1, (2, 32, 32))
    half = np.where(np.arange(32) < 16, low, high).astype(np.float32)
    assert 0.15 < learn_margin([half, half[::-1]]) < 0.75
    assert learn_margin([np.full((3, 16, 16), 0.4, np.float32)]) == 0


def test_flipping_averages_the_image_and_its_mirror_image():
    image = picture()
    plain = predict().class_maps
    mirrored = predict(image=np.ascontiguousarray(image[:, ::-1])).class_maps[..., ::-1]
    assert np.abs(plain - mirrored).max() > 1e-3
    got = predict(changed(flip=True)).class_maps
    np.testing.assert_allclose(got, (plain + mirrored) / 2, atol=1e-6)


def test_intensities_average_the_darker_and_the_brighter_image():
    def at(factor: float) -> np.ndarray:
        """Predict the image whose intensities are `factor` times as high."""

        class Scaled(ColourModel):
            def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
                return super().forward((images * factor).clamp(max=1))

        return Predictor(Scaled(), (7, 8, 9), PLAIN, CPU).predict(picture()[None]).class_maps

    expected = (at(0.8) + at(1.0) + at(1.2)) / 3
    got = predict(changed(intensities=(0.8, 1.0, 1.2))).class_maps
    np.testing.assert_allclose(got, expected, atol=1e-6)
    without_the_image_itself = predict(changed(intensities=(0.8, 1.2))).class_maps
    np.testing.assert_allclose(without_the_image_itself, (at(0.8) + at(1.2)) / 2, atol=1e-6)


def test_the_reference_recipe_averages_six_views():
    class Counting(ColourModel):
        calls = 0

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            Counting.calls += 1
            return super().forward(images)

    Predictor(Counting(), (7, 8, 9), REFERENCE, CPU).predict(picture()[None])
    assert Counting.calls == 6


def test_stages_are_weighted_and_the_last_weights_count_where_there_are_fewer():
    only_fine = predict(changed(stage_weights=(9.0, 1.0, 0.0))).class_maps
    only_coarse = predict(changed(stage_weights=(9.0, 0.0, 2.0))).class_maps
    both = predict(changed(stage_weights=(9.0, 3.0, 1.0))).class_maps
    assert np.abs(only_fine - only_coarse).max() > 0.01
    np.testing.assert_allclose(both, 0.75 * only_fine + 0.25 * only_coarse, atol=1e-6)


def test_an_image_of_any_size_gives_a_mask_of_its_size():
    image = picture(13, 19)
    got = predict(Recipe(), image=image)
    assert got.masks.shape == (1, 13, 19)
    assert got.class_maps.shape == (1, 3, 13, 19)
    padded = np.pad(image, ((0, 3), (0, 1), (0, 0)), mode="edge")
    np.testing.assert_allclose(
        got.class_maps, predict(Recipe(), image=padded).class_maps[:, :, :13, :19], atol=1e-6
    )


def test_a_batch_gives_what_its_images_give_alone():
    images = np.stack([picture(), picture()[:, ::-1], picture()[::-1]])
    labels = np.array([[1, 0, 1], [1, 0, 0], [-1, -1, -1]], np.int8)
    predictor = Predictor(ColourModel(), (7, 8, 9), Recipe(), CPU)
    together = predictor.predict(images, labels)
    for number in range(3):
        alone = predictor.predict(images[number : number + 1], labels[number : number + 1])
        np.testing.assert_array_equal(together.masks[number], alone.masks[0])


def test_masks_of_large_images_are_those_of_one_pass():
    images = picture(64, 96)[None]
    model = PixelModel()
    whole = Predictor(model, (7, 8, 9), REFERENCE, CPU).predict(images)
    cut = Predictor(model, (7, 8, 9), REFERENCE, CPU, Windows(16, 4)).predict(images)
    np.testing.assert_array_equal(cut.masks, whole.masks)
    np.testing.assert_allclose(cut.class_maps, whole.class_maps, atol=1e-6)


class PixelModel(ColourModel):
    """The same, without regard to where a pixel lies."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        excess = images[:, [0, 2]] - images[:, 1:2] - self.offset
        return tuple(F.avg_pool2d(excess, stride) for stride in self.strides)


def test_a_recipe_survives_its_file(tmp_path: Path):
    recipe = Recipe(
        stage_weights=(0.2, 0.8),
        merge=Merge.MEAN,
        normalisation=Normalisation.SIGMOID,
        labels=LabelCondition.PREDICTED,
        background=Background.MARGIN,
        margin=0.25,
        flip=False,
        intensities=(0.5, 1.0),
    )
    path = tmp_path / "recipe.json"
    path.write_text(recipe.model_dump_json(), encoding="utf-8")
    assert Recipe.read(path) == recipe


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('{"merge": "median"}', "merge"),
        ('{"margin": 2}', "margin"),
        ('{"intensities": []}', "intensities"),
        ('{"colour": 1}', "colour"),
        ("[1, 2", "not a mask recipe"),
        ("[" * 100_000, "not a mask recipe"),
        ('{"stage_weights": [NaN, 1, 1]}', "stage_weights"),
        ('{"intensities": [Infinity]}', "intensities"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str, place: str):
    path = tmp_path / "recipe.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ProjectError, match=re.escape(place)) as caught:
        Recipe.read(path)
    assert caught.value.where == str(path)


def test_a_missing_recipe_is_named(tmp_path: Path):
    with pytest.raises(StorageError, match=r"nowhere\.json"):
        Recipe.read(tmp_path / "nowhere.json")


def test_a_recipe_is_not_changed_in_place():
    with pytest.raises(ValidationError):
        PLAIN.flip = True


@pytest.mark.parametrize("weights", [(), (1.0, 0.0, 0.0), (-1.0, 2.0)])
def test_weights_that_leave_a_model_nothing_are_refused(weights: tuple[float, ...]):
    with pytest.raises(ProjectError, match="stage_weights"):
        predict(Recipe(stage_weights=weights))


class TwoOfAKind(ColourModel):
    """Prototypes of red and green for the first class, of blue for the second."""

    def __init__(
        self, positions: tuple[int, ...] = (0, 0, 1), channels: tuple[int, ...] = (0, 1, 2)
    ):
        MapModel.__init__(self, positions, 2, (4,))
        self.channels = list(channels)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.nn.functional.avg_pool2d(images[:, self.channels], 4),)


def test_muting_a_prototype_is_leaving_it_out():
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    device, recipe = torch.device("cpu"), Recipe(stage_weights=(1.0,))
    muted = Predictor(
        TwoOfAKind(), (1, 2), recipe.model_copy(update={"muted": (1,)}), device
    ).predict(image)
    without = Predictor(TwoOfAKind((0, 1), (0, 2)), (1, 2), recipe, device).predict(image)
    whole = Predictor(TwoOfAKind(), (1, 2), recipe, device).predict(image)
    assert np.array_equal(muted.class_maps, without.class_maps)
    assert np.array_equal(muted.masks, without.masks)
    assert not np.array_equal(muted.class_maps, whole.class_maps)
    assert np.array_equal(muted.probabilities, without.probabilities)
    assert not np.array_equal(muted.probabilities, whole.probabilities)


def test_a_class_whose_prototypes_are_all_muted_is_nowhere():
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    recipe = Recipe(stage_weights=(1.0,), muted=(0, 1))
    prediction = Predictor(TwoOfAKind(), (1, 2), recipe, torch.device("cpu")).predict(image)
    assert set(np.unique(prediction.masks)) <= {0, 2}
    assert not prediction.class_maps[:, 0].any()


@pytest.mark.parametrize("muted", [(3,), (-1,), (0, 9)])
def test_muting_what_is_not_there_is_refused(muted: tuple[int, ...]):
    with pytest.raises(ProjectError, match="prototypes of this model are 0 to 2"):
        Predictor(TwoOfAKind(), (1, 2), Recipe(muted=muted), torch.device("cpu"))


def test_a_plain_class_activation_map_has_nothing_to_mute():
    model = PlainCam(create_backbone(DEFAULT_BACKBONE), 2)
    with pytest.raises(ProjectError, match="has no prototypes"):
        Predictor(model, (1, 2), Recipe(muted=(0,)), torch.device("cpu"))


def test_what_a_model_saw_serves_another_recipe():
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    first = Predictor(TwoOfAKind(), (1, 2), Recipe(stage_weights=(1.0,)), torch.device("cpu"))
    other = first.with_recipe(first.recipe.model_copy(update={"muted": (0,)}))
    assert other.model is first.model
    ours = other.decide(first.look(image), image)
    assert np.array_equal(ours.class_maps, other.predict(image).class_maps)


@pytest.mark.parametrize("pixels", [1, 50, 24 * 16])
def test_masks_are_decided_on_in_bands_of_rows(pixels: int, monkeypatch: pytest.MonkeyPatch):
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    images[:, 5:9] = 255
    recipe = Recipe(stage_weights=(1.0,), background=Background.WHITE)
    predictor = Predictor(TwoOfAKind(), (1, 2), recipe, torch.device("cpu"))
    whole = predictor.predict(images)
    monkeypatch.setattr("napari_protoseg.masks.prediction._BAND_PIXELS", pixels)
    banded = predictor.predict(images)
    assert set(np.unique(whole.masks)) == {0, 1, 2}
    assert np.array_equal(banded.masks, whole.masks)
    assert np.array_equal(banded.confidence, whole.confidence)


def test_class_maps_of_mirrored_views_lie_where_the_image_has_them():
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    plain = Predictor(TwoOfAKind(), (1, 2), PLAIN, torch.device("cpu"))
    mirrored = plain.with_recipe(plain.recipe.model_copy(update={"flip": True}))
    expected = plain.predict(image).class_maps
    assert np.ptp(expected) > 0.5
    # Of colours alone a mirrored view says the same.
    assert np.allclose(mirrored.predict(image).class_maps, expected, atol=1e-6)


@pytest.mark.parametrize("competing", [False, True])
@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_a_muted_prototype_has_no_say_in_which_classes_are_predicted(
    normalisation: Normalisation, competing: bool
):
    """Two prototypes of one class, one for red and one for blue; another class is for green."""

    class Two(MapModel):
        def __init__(self) -> None:
            super().__init__([0, 0, 1], 2, (2,), competing=competing)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (8 * F.avg_pool2d(images[:, [0, 2, 1]] - 0.4, 2),)

    red = np.full((1, 16, 16, 3), (255, 110, 0), np.uint8)
    recipe = Recipe(
        flip=False, normalisation=normalisation, labels=LabelCondition.PREDICTED, muted=(0,)
    )
    predictor = Predictor(Two(), (1, 2), recipe, CPU)
    muted = predictor.predict(red)
    assert muted.probabilities[0, 0] < 0.5
    loud = predictor.with_recipe(recipe.model_copy(update={"muted": (1,)})).predict(red)
    assert loud.probabilities[0, 0] > 0.5
    silent = predictor.with_recipe(recipe.model_copy(update={"muted": (0, 1)})).predict(red)
    assert silent.probabilities[0, 0] == 0


def test_of_a_single_class_pixels_are_left_to_the_rest():
    class Red(MapModel):
        def __init__(self) -> None:
            super().__init__([0], 1, (2,), competing=True)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (20 * F.avg_pool2d(images[:, :1] - images[:, 2:] - 0.2, 2),)

    recipe = Recipe(flip=False, labels=LabelCondition.PREDICTED)
    predictor = Predictor(Red(), (5,), recipe, CPU)
    got = predictor.predict(picture()[None])
    assert (got.masks[0, :6, :10] == 5).all()
    assert (got.masks[0, :, 14:] == 0).all()
    assert got.probabilities[0, 0] > 0.5
    blue = predictor.predict(np.full((1, 16, 16, 3), (40, 30, 200), np.uint8))
    assert blue.probabilities[0, 0] < 0.5
    assert found(blue) == {0}


class RandomMaps(MapModel):
    """Maps of five classes that have nothing to do with the image."""

    def __init__(self) -> None:
        super().__init__(range(5), 5, (1,))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(7)
        return (torch.randn(len(images), 5, *images.shape[2:], generator=generator),)


def test_of_many_classes_the_highest_wins_by_its_lead_over_the_next():
    prediction = Predictor(RandomMaps(), range(1, 6), Recipe(flip=False), CPU).predict(
        picture()[None]
    )
    in_order = np.sort(prediction.class_maps, 1)
    np.testing.assert_array_equal(prediction.masks, prediction.class_maps.argmax(1) + 1)
    np.testing.assert_array_equal(
        prediction.confidence, (in_order[:, -1] - in_order[:, -2]).astype(np.float16)
    )
