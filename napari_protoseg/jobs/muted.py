"""Prototypes that a person has muted in a project, as a part of the recipe of its masks."""

from __future__ import annotations

from napari_protoseg.jobs.models import newest_trained_round
from napari_protoseg.jobs.recipes import request_of
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.record import ModelKind
from napari_protoseg.project.folder import Project


def with_muted_of_project(project: Project, recipe: Recipe) -> Recipe:
    """Return `recipe` for the model that the project makes masks with now, told from records.

    Parameters
    ----------
    project
        Those prototypes are muted that a person has muted in the bank of its newest trained
        round; none where nothing is trained, or that model has no prototypes.
    recipe
        For anything else: what it mutes itself does not count.
    """
    trained = newest_trained_round(project)
    if trained is None:
        return recipe.model_copy(update={"muted": ()})
    request = request_of(trained)
    # Of another version of this program almost every model is one of prototypes.
    kind = ModelKind.PROTOTYPES if request is None else request.kind
    return with_muted_of_bank(project, recipe, kind, trained.bank_version)


def with_muted_of_bank(
    project: Project, recipe: Recipe, kind: ModelKind, bank_version: int
) -> Recipe:
    """Return `recipe` for a model that is at hand, with a bank of the project.

    Parameters
    ----------
    project, bank_version
        Whose bank it is, and which: the prototypes are muted that a person has muted in it.
    recipe
        For anything else: what it mutes itself does not count.
    kind
        Of the model, which may have no prototypes to mute.
    """
    muted: tuple[int, ...] = ()
    if kind.has_prototypes:
        muted = tuple(sorted(project.muted_prototypes(bank_version)))
    return recipe.model_copy(update={"muted": muted})
