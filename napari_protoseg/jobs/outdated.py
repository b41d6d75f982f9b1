"""Which stored masks are no longer what the project's model makes, told from records alone."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.records import MaskSummary, Round


def outdated_masks(
    summaries: Mapping[int, MaskSummary], trained: Round, recipe: Recipe
) -> frozenset[int]:
    """Return the images whose mask a model of this project made, but not this one in this way.

    Parameters
    ----------
    summaries
        Of masks, by image.
    trained
        The round whose model makes masks now.
    recipe
        By which it makes them.

    Returns
    -------
    frozenset of int
        Images whose mask came from another round, from an earlier state of this one, or by
        another recipe. That a round went on after a mask was made is told by the dates of
        both, since a mask does not record the hash of its checkpoint.
    """
    fitting: dict[str, bool] = {}
    outdated = set()
    for image_id, summary in summaries.items():
        if summary.round_id is None:
            continue
        made_with = summary.recipe_json
        if made_with not in fitting:
            fitting[made_with] = is_made_by(made_with, recipe)
        if (
            summary.round_id != trained.id
            or trained.finished is None
            or summary.created < trained.finished
            or not fitting[made_with]
        ):
            outdated.add(image_id)
    return frozenset(outdated)


def is_made_by(made_with: str, recipe: Recipe) -> bool:
    """Tell whether the recipe recorded with a mask, as JSON, is `recipe`."""
    try:
        made = Recipe.model_validate_json(made_with)
    except ValidationError:
        return False  # of another version of this program
    # A margin that was to be learned stands in the record of the mask.
    return recipe == (made.model_copy(update={"margin": None}) if recipe.margin is None else made)
