"""Which stored masks are no longer what the project's model makes, told from records alone."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from napari_protoseg.jobs.models import newest_trained_round, with_bank_muted
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.record import ModelKind
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import MaskSummary, Round


def with_muted(project: Project, recipe: Recipe) -> Recipe:
    """Return `recipe` with those prototypes muted that a person has muted in the project.

    They are those of the bank of the newest trained round. Where nothing is trained, or the
    model is a plain class activation map, which has no prototypes, none is muted.
    """
    trained = newest_trained_round(project)
    if trained is None:
        return recipe.model_copy(update={"muted": ()})
    return with_bank_muted(project, recipe, _kind_of(trained), trained.bank_version)


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


def _kind_of(trained: Round) -> ModelKind:
    try:
        return TrainRequest.model_validate_json(trained.config_json).kind
    except ValidationError:
        return ModelKind.PROTOTYPES  # of another version of this program; almost every model is
