"""What is installed, and what a project holds, for a person or a bug report."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from importlib.metadata import version
from typing import Any

from napari_protoseg.encoders.registry import DEFAULT_ENCODER, KNOWN_MODELS, licence_of
from napari_protoseg.jobs.chain import standings
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Split, Stage
from napari_protoseg.training.devices import choose_device, describe_device

_PACKAGES = ("torch", "torchvision", "timm", "zarr", "numpy")


def describe_program(program_version: str) -> dict[str, Any]:
    """Describe this program and the machine."""
    return {
        "napari-protoseg": program_version,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        **{name: version(name) for name in _PACKAGES},
        "device": describe_device(choose_device()),
        "default encoder": f"{DEFAULT_ENCODER}, {licence_of(DEFAULT_ENCODER).name}",
    }


def describe_encoders() -> list[dict[str, Any]]:
    """Describe each encoder that is known by name: licence, sizes, where its weights are had.

    What is None is not recorded here; any other model of timm is an encoder as well.
    """
    described = []
    for name, known in KNOWN_MODELS.items():
        if known.architecture is None:
            continue
        own = "come with the installation" if name == DEFAULT_ENCODER else f"of timm's {name}"
        published = known.publication
        described.append(
            {
                "name": name,
                "licence": known.licence.name,
                "commercial use": known.licence.commercial,
                "mean": known.mean,
                "std": known.std,
                "side": published and published.side,
                "patch": published and published.patch,
                "width": published and published.width,
                "prefix tokens": published and published.prefix_tokens,
                "millions of parameters": published and published.parameters,
                "micrometres per pixel": published and published.micrometres_per_pixel,
                "published embedding": published and published.embedding,
                "weights": own if published is None else published.source,
            }
        )
    return described


def describe_project(project: Project) -> dict[str, Any]:
    """Describe the images, banks and rounds of a project, and what of them is out of date."""
    images = project.images()
    splits = Counter(image.split for image in images)
    bank = project.latest_bank()
    newest, second = project.latest_round(), project.latest_round(stage=Stage.SEGMENTATION)
    present = {
        name: sum(image.label[position] == 1 for image in images)
        for position, name in enumerate(project.schema.names)
    }
    return {
        "project": str(project.folder),
        "classes": ", ".join(f"{c.name} (id {c.id})" for c in project.schema.classes),
        "images": len(images),
        "training images": splits[Split.TRAIN],
        "validation images": splits[Split.VALIDATION],
        "images that hold": present,
        "bank": None if bank is None else bank.version,
        "round": None if newest is None else newest.id,
        "round status": None if newest is None else newest.status.value,
        "segmentation round": None if second is None else second.id,
        "segmentation round status": None if second is None else second.status.value,
        "out of date": [of.sentence for of in standings(project) if of.sentence],
    }
