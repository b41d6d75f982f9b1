"""Which stored masks are no longer what the model at hand makes, told from records alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from pydantic import ValidationError

from napari_protoseg.jobs.models import ModelKey
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.records import MaskSource, MaskSummary


def outdated_masks(
    summaries: Mapping[int, MaskSummary],
    model: ModelKey,
    recipe: Recipe,
    relabelled: Collection[int] = (),
) -> frozenset[int]:
    """Return the images whose mask `is_outdated`, or was made with other labels.

    Parameters
    ----------
    summaries
        Of masks, by image.
    model, recipe
        By which masks are made now.
    relabelled
        Images whose labels are not those that their masks were made with.
    """
    return frozenset(
        i
        for i, summary in summaries.items()
        if is_outdated(summary, model, recipe, is_relabelled=i in relabelled)
    )


def is_outdated(
    source: MaskSource, model: ModelKey, recipe: Recipe, *, is_relabelled: bool = False
) -> bool:
    """Tell whether a mask is to give way to what a model makes now; what a person has set stays.

    Parameters
    ----------
    source
        What the mask came from.
    model, recipe
        By which masks are made now.
    is_relabelled
        Whether it was made with other labels than its image has now.

    Returns
    -------
    bool
        Whether the mask came from an earlier model of this project, from an earlier state of
        this one, or from this one by another recipe or with other labels. One that was painted,
        imported, or made by a model of another project is never outdated. That a round went on
        after a mask was made is told by the dates of both, since a mask does not record the hash
        of its checkpoint.
    """
    if source.round_id is not None:
        # The frozen evidence of a newer bank is no better than what was trained before.
        if model.round_id is None or model.round_id < source.round_id:
            return False
        goes_on = model.finished is None or source.created < model.finished
        is_earlier = model.round_id > source.round_id or goes_on
    elif source.bank_version is not None:
        if model.bank_version < source.bank_version:
            return False
        is_earlier = model.round_id is not None or model.bank_version > source.bank_version
    else:
        return False
    return is_earlier or is_relabelled or not _is_made_by(source.recipe_json, recipe)


@lru_cache(maxsize=64)  # thousands of masks share a few recipes
def _is_made_by(made_with: str, recipe: Recipe) -> bool:
    """Tell whether the recipe recorded with a mask, as JSON, is `recipe`."""
    try:
        made = Recipe.model_validate_json(made_with)
    except ValidationError:
        return False  # of another version of this program
    # A margin that was to be learned stands in the record of the mask.
    return recipe == (made.model_copy(update={"margin": None}) if recipe.margin is None else made)
