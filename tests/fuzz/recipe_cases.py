"""Hostile mask recipes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

from fuzzed_reader import FuzzedReader
from mutations import json_text, placed

from napari_protoseg.masks.recipe import Recipe

_RECIPE = json.loads(Recipe(margin=0.3, muted=(1, 2)).model_dump_json())


def _make(random: Random, folder: Path) -> Path:
    return placed(random, folder, ".json", json_text(random, _RECIPE))


def _read(path: Path, random: Random) -> None:
    recipe = Recipe.read(path)
    assert all(map(math.isfinite, (*recipe.stage_weights, *recipe.intensities)))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=8_000,
    code={"napari_protoseg/masks/recipe.py": ()},
)
