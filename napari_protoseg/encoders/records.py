"""What is recorded of a model that this program knows by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Licence:
    """The licence of a model's published weights.

    Parameters
    ----------
    name
        In a few words, as a record keeps it.
    notice
        A sentence for a person, shown before first use.
    commercial
        Whether commercial use is allowed; None where that is not known.
    """

    name: str
    notice: str
    commercial: bool | None


@dataclass(frozen=True)
class Publication:
    """What the publisher of an encoder says of it.

    Parameters
    ----------
    title
        Its name in print.
    page, file
        Where a person gets its weights, and the name of the file there.
    gated
        Whether the publisher asks for a registration first.
    parameters
        Their number, in millions.
    side
        Of the square images that it was trained on, in pixels.
    patch
        Side of the patch that becomes a token, in pixels.
    width
        Of a token.
    prefix_tokens
        Tokens before those of the patches: one of the class, and registers.
    micrometres_per_pixel
        At which its publisher, or a toolkit of theirs, has it applied.
    embedding
        What the publisher takes for the embedding of an image. Banks take the mean of the
        patches' tokens instead: prototypes have to be in the space of the dense features.
    """

    title: str
    page: str
    file: str
    gated: bool
    parameters: int
    side: int
    patch: int
    width: int
    prefix_tokens: int
    micrometres_per_pixel: float
    embedding: str

    @property
    def source(self) -> str:
        """Where its weights are to be had, in words."""
        asked = ", after registration there" if self.gated else ""
        return f"{self.file} from {self.page}{asked}"


@dataclass(frozen=True)
class KnownModel:
    """A model that this program knows by name.

    Parameters
    ----------
    licence
        Of its published weights.
    architecture
        Name under which timm builds it; None where timm cannot.
    arguments
        Further arguments of ``timm.create_model`` that its weights ask for.
    gated_mlp
        Whether its blocks have SwiGLU with gate and value in one layer (timm's
        ``SwiGLUPacked``), where the architecture has another feed-forward part.
    norm_epsilon
        Of its layer normalisation, where it is not timm's.
    mean, std
        Normalisation in units of 0..1, where it is not the architecture's own.
    publication
        What its publisher says; None where that is of no consequence.
    """

    licence: Licence
    architecture: str | None
    arguments: Mapping[str, int | float] = field(default_factory=dict)
    gated_mlp: bool = False
    norm_epsilon: float | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    publication: Publication | None = None


def permissive(name: str, owner: str) -> Licence:
    """Return a licence that allows commercial use."""
    return Licence(name, f"Weights by {owner}, {name}: commercial use is allowed.", True)


def restricted(name: str, owner: str) -> Licence:
    """Return a licence for research alone."""
    return Licence(name, f"Weights by {owner}, {name}: research only, no commercial use.", False)
