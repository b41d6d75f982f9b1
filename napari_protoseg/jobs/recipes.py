"""The recipe that a person has chosen for the masks of a project."""

from __future__ import annotations

from pydantic import ValidationError

from napari_protoseg.errors import ProjectError
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project


def recipe_of(project: Project) -> Recipe:
    """Return the recipe that was chosen for a project, or the default one.

    Raises
    ------
    ProjectError
        It was chosen with another version of this program.
    """
    chosen = project.recipe_json()
    if chosen is None:
        return Recipe()
    try:
        return Recipe.model_validate_json(chosen)
    except ValidationError as error:
        raise ProjectError(
            "its mask recipe is not one that this version knows",
            where=project.folder,
            remedy="Open it with the version that it was made with, or a newer one.",
        ) from error
