"""The prototype bank: several appearances of each tissue class, as embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from napari_protoseg.bank.candidates import ClassCandidates, choose_candidates
from napari_protoseg.bank.clustering import cluster, unit_rows
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.errors import BankError
from napari_protoseg.schema import ClassSchema

_ENOUGH_CANDIDATES = 8


class PrototypeState(Enum):
    """Whether a prototype takes part."""

    ACTIVE = "active"
    MUTED = "muted"
    ARTEFACT = "artefact"


class Prototype(BaseModel):
    """One appearance of a class: what is known of one row of the bank's centres.

    Parameters
    ----------
    class_id
        The class that it stands for.
    members
        Content hashes of the images whose mean it is, the most similar first.
    similarities
        Cosine of each member to the prototype, -1..1.
    size
        Images in its cluster.
    cohesion
        Mean cosine of all images in its cluster to the prototype, -1..1.
    state
        Whether it takes part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    class_id: int
    members: tuple[str, ...]
    similarities: tuple[float, ...]
    size: int
    cohesion: float
    state: PrototypeState = PrototypeState.ACTIVE


class BankConfig(BaseModel):
    """How a bank is built.

    Parameters
    ----------
    clusters
        Prototypes per class: one number for all, or one for each class in schema order.
    members
        Images nearest to the centre of a cluster whose mean is the prototype.
    max_white
        Images with a larger white fraction are left out.
    seed, starts
        Of the clustering.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clusters: int | tuple[int, ...] = Field(default=3, title="Prototypes per class")
    members: int = Field(default=20, ge=1)
    max_white: float = Field(default=0.6, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
    starts: int = Field(default=10, ge=1)

    def clusters_of(self, schema: ClassSchema) -> tuple[int, ...]:
        """Return the number of prototypes wanted of each class of `schema`.

        Raises
        ------
        BankError
            There are not as many numbers as classes, or one is below 1.
        """
        count = len(schema.classes)
        wanted = (self.clusters,) * count if isinstance(self.clusters, int) else self.clusters
        if len(wanted) != count or min(wanted) < 1:
            raise BankError(
                f"{wanted} does not give a number of prototypes, 1 or more, for each class",
                where="clusters",
                remedy=f"Give one number, or {count}, for: {', '.join(schema.names)}.",
            )
        return wanted


@dataclass(frozen=True, eq=False)
class PrototypeBank:
    """Prototypes of the classes of a schema, in the space of one encoder.

    Parameters
    ----------
    centres
        float32 (P, d), rows of length 1; classes in schema order, the largest cluster of
        a class first.
    prototypes
        What is known of each row.
    schema
        Its classes.
    encoder
        Whose embeddings these are.
    config
        How it was built.
    micrometres_per_pixel
        Median over the images that it was built from, or None where not known.
    created
        ISO 8601 date and time.
    notices
        Sentences on what a person should know: classes with too few images, and the like.
    """

    centres: NDArray[np.float32]
    prototypes: tuple[Prototype, ...]
    schema: ClassSchema
    encoder: EncoderIdentity
    config: BankConfig
    micrometres_per_pixel: float | None
    created: str
    notices: tuple[str, ...]

    @property
    def class_positions(self) -> NDArray[np.int64]:
        """Position in the bank's schema of the class of each prototype: int64 (P,)."""
        return self.positions_in(self.schema)

    def positions_in(self, schema: ClassSchema) -> NDArray[np.int64]:
        """Position of the class of each prototype in a `schema` that extends the bank's."""
        return np.array([schema.ids.index(p.class_id) for p in self.prototypes], dtype=np.int64)

    @property
    def clusters_per_class(self) -> tuple[int, ...]:
        """Number of prototypes of each class, in schema order."""
        counts = np.bincount(self.class_positions, minlength=len(self.schema.classes))
        return tuple(int(count) for count in counts)

    @property
    def fingerprint(self) -> str:
        """Hash over centres, their classes and the encoder, whatever their states (16 hex)."""
        digest = hashlib.sha256(self.centres.astype("<f4").tobytes())
        digest.update(repr([p.class_id for p in self.prototypes]).encode())
        digest.update(self.encoder.fingerprint.encode())
        return digest.hexdigest()[:16]

    def require(self, encoder: EncoderIdentity, schema: ClassSchema) -> None:
        """Make sure that the bank fits an encoder and the schema of a project.

        Raises
        ------
        BankError
            It was made with another encoder or other weights, or for classes that `schema`
            does not have.
        """
        if encoder.fingerprint != self.encoder.fingerprint:
            raise BankError(
                f"made with {_named(self.encoder)}, not with {_named(encoder)}",
                where="prototype bank",
                remedy="Build the bank anew with this encoder, or choose the bank's encoder.",
            )
        if not schema.extends(self.schema):
            raise BankError(
                f"made for the classes {_classes(self.schema)}, "
                f"which are not all among {_classes(schema)}",
                where="prototype bank",
                remedy="Build the bank anew for these classes, or bring back one that was removed.",
            )


def build_bank(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.int8],
    white: NDArray[np.floating],
    content_hashes: Sequence[str],
    schema: ClassSchema,
    encoder: EncoderIdentity,
    config: BankConfig,
    *,
    created: str,
    micrometres_per_pixel: Sequence[float | None] | None = None,
) -> PrototypeBank:
    """Find the prototypes of each class (Prototype-Based Image Prompting, stage 1).

    Candidates of a class are clustered by cosine; a prototype is the renormalised mean of
    the embeddings, each scaled to length 1, of the members nearest to the centre of its
    cluster. The result does not depend on the order of the images.

    Parameters
    ----------
    embeddings
        (n, d) of `encoder`.
    labels
        int8 (n, classes): 1 present, 0 absent, -1 unknown.
    white
        (n,) white fractions, 0..1.
    content_hashes
        (n,) of the image files.
    schema, encoder, config
        What the bank is for, and how it is built.
    created
        ISO 8601 date and time, kept as it is.
    micrometres_per_pixel
        (n,) where known.

    Raises
    ------
    BankError
        A class has no candidate, or `config` does not fit the schema.
    """
    wanted = config.clusters_of(schema)
    candidates = choose_candidates(
        labels,
        white,
        content_hashes,
        schema,
        minimum=[max(2 * k, _ENOUGH_CANDIDATES) for k in wanted],
        max_white=config.max_white,
    )
    notices = [chosen.notice for chosen in candidates if chosen.notice is not None]
    centres: list[NDArray[np.float64]] = []
    prototypes: list[Prototype] = []
    for name, count, chosen in zip(schema.names, wanted, candidates, strict=True):
        found = _prototypes(embeddings, content_hashes, chosen, count, config)
        if len(found) < count:
            notices.append(
                f"{name}: {len(chosen.rows)} images give {len(found)} distinct prototypes "
                f"instead of {count}."
            )
        centres += [centre for centre, _ in found]
        prototypes += [prototype for _, prototype in found]
    used = np.unique(np.concatenate([chosen.rows for chosen in candidates]))
    sizes = [] if micrometres_per_pixel is None else [micrometres_per_pixel[row] for row in used]
    known_sizes = [size for size in sizes if size is not None]
    return PrototypeBank(
        centres=np.stack(centres).astype(np.float32),
        prototypes=tuple(prototypes),
        schema=schema,
        encoder=encoder,
        config=config,
        micrometres_per_pixel=float(np.median(known_sizes)) if known_sizes else None,
        created=created,
        notices=tuple(notices),
    )


def _prototypes(
    embeddings: NDArray[np.floating],
    content_hashes: Sequence[str],
    chosen: ClassCandidates,
    count: int,
    config: BankConfig,
) -> list[tuple[NDArray[np.float64], Prototype]]:
    """Cluster the candidates of one class; the largest cluster first, no empty one."""
    rows = unit_rows(embeddings[chosen.rows])
    clustering = cluster(rows, min(count, len(rows)), config.seed, config.starts)
    sizes = np.bincount(clustering.assignment, minlength=len(clustering.centres))
    found = []
    for cluster_id in np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]:
        inside = np.flatnonzero(clustering.assignment == cluster_id)
        nearness = rows[inside] @ clustering.centres[cluster_id]
        nearest = inside[np.argsort(-nearness, kind="stable")[: config.members]]
        centre = unit_rows(rows[nearest].mean(axis=0, keepdims=True))[0]
        similarities = rows[nearest] @ centre
        order = np.argsort(-similarities, kind="stable")
        prototype = Prototype(
            class_id=chosen.class_id,
            members=tuple(content_hashes[chosen.rows[row]] for row in nearest[order]),
            similarities=tuple(float(value) for value in similarities[order]),
            size=len(inside),
            cohesion=float((rows[inside] @ centre).mean()),
        )
        found.append((centre, prototype))
    return found


def _named(encoder: EncoderIdentity) -> str:
    return f"{encoder.name} (weights {encoder.weights_sha256[:8]})"


def _classes(schema: ClassSchema) -> str:
    return ", ".join(f"{c.name} (id {c.id})" for c in schema.classes)
