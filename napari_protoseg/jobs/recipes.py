"""The recipe for the masks of a project: what a person has chosen, or what suits the model."""

from __future__ import annotations

from pydantic import ValidationError

from napari_protoseg.errors import ProjectError
from napari_protoseg.jobs.models import newest_trained_round
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.masks.recipe import Recipe, default_recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round


def recipe_of(project: Project) -> Recipe:
    """Return the recipe that was chosen for a project, or that of its newest trained round.

    Raises
    ------
    ProjectError
        It was chosen with another version of this program.
    """
    chosen = chosen_recipe(project)
    return recipe_of_round(newest_trained_round(project)) if chosen is None else chosen


def chosen_recipe(project: Project) -> Recipe | None:
    """Return the recipe that a person has chosen for a project, or None; errors as `recipe_of`."""
    chosen = project.recipe_json()
    if chosen is None:
        return None
    try:
        return Recipe.model_validate_json(chosen)
    except ValidationError as error:
        raise ProjectError(
            "its mask recipe is not one that this version knows",
            where=project.folder,
            remedy="Open it with the version that it was made with, or a newer one.",
        ) from error


def recipe_of_round(trained: Round | None) -> Recipe:
    """Return the recipe that suits the model of a round, told from records."""
    request = None if trained is None else request_of(trained)
    return Recipe() if request is None else default_recipe(request.config.compat)


def request_of(trained: Round) -> TrainRequest | None:
    """Return what was asked of a round; None where another version of this program asked it."""
    try:
        return TrainRequest.model_validate_json(trained.config_json)
    except ValidationError:
        return None
