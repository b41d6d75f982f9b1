"""Which masks give way to the model at hand: the same in the window and in an export."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tiny_project import NOW

from napari_protoseg.jobs.models import ModelKey
from napari_protoseg.jobs.outdated import is_outdated
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.records import MaskSource

RECIPE = Recipe()
OTHER = RECIPE.model_copy(update={"muted": (1,)})
LATER = NOW + timedelta(minutes=1)


def source(
    round_id: int | None = None, bank_version: int | None = None, recipe: Recipe | None = RECIPE
) -> MaskSource:
    return MaskSource(
        round_id=round_id,
        bank_version=bank_version,
        label_condition="given",
        recipe_json="null" if recipe is None else recipe.model_dump_json(),
        created=NOW,
    )


def trained(round_id: int, bank_version: int = 1, finished: datetime | None = NOW) -> ModelKey:
    return ModelKey(round_id, finished, bank_version)


def evidence(bank_version: int) -> ModelKey:
    return ModelKey(None, None, bank_version)


@pytest.mark.parametrize(
    ("made", "model", "outdated"),
    [
        (source(1), trained(1), False),
        (source(1), trained(2), True),
        (source(2), trained(1), False),
        (source(1), trained(1, finished=LATER), True),
        (source(1, recipe=OTHER), trained(1), True),
        (source(1, recipe=OTHER), evidence(2), False),
        (source(bank_version=1), evidence(1), False),
        (source(bank_version=1), evidence(2), True),
        (source(bank_version=1, recipe=OTHER), evidence(1), True),
        (source(bank_version=1), trained(1), True),
        (source(bank_version=2, recipe=OTHER), trained(1, bank_version=1), False),
        (source(recipe=None), trained(1), False),
        (source(recipe=None), evidence(1), False),
        (source(recipe=OTHER), trained(1), False),
    ],
    ids=[
        "of this round",
        "of an earlier round",
        "of a later round",
        "of an earlier state of this round",
        "of this round by another recipe",
        "of a round, with an untrained bank at hand",
        "of this bank",
        "of an earlier bank",
        "of this bank by another recipe",
        "of the bank that was then trained on",
        "of a bank that is newer than the training",
        "painted, with a round",
        "painted, with a bank",
        "of another project",
    ],
)
def test_a_mask_gives_way_to_a_better_model_or_another_recipe(
    made: MaskSource, model: ModelKey, outdated: bool
):
    assert is_outdated(made, model, RECIPE) is outdated
