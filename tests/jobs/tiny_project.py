"""A project of tiny tiles: what the tests of the jobs and of the terminal work on.

A workspace is a folder with all of it, which a test copies before it changes anything::

    tiles/          16 training tiles of 64 px, 4 cases, labels in their names
    validation/     4 images of other cases in images/, class ids in masks/, positions in positions/
    project/        made of the tiles
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from driven_jobs import finish
from PIL import Image
from tiny_backbone import TINY, tiny_weights

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.segment import SegmentRequest, Start, segment_project
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import ClassSchema
from napari_protoseg.synthesis.sample import image_label
from napari_protoseg.synthesis.tiles import Region, SyntheticTile, synthesize_tile
from napari_protoseg.synthesis.tissue import APPEARANCES, TISSUE_SCHEMA
from napari_protoseg.training.config import SECOND_STAGE, Preset, TrainingConfig

CPU = torch.device("cpu")
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NAMES = TISSUE_SCHEMA.names
CLASSES = ",".join(NAMES)
SIZE = 64
CASES = 4
CASE_PATTERN = r"(case\d+)_"


def tile(case: int, number: int, *classes: int) -> SyntheticTile:
    """Make a tile that holds the classes at these positions, in equal parts."""
    looks = [APPEARANCES[TISSUE_SCHEMA.ids[position]][0] for position in classes]
    regions = tuple(Region(look, 1 / len(looks)) for look in looks)
    return synthesize_tile(5, case, number, size=SIZE, regions=regions)


def write_tile(folder: Path, case: int, number: int, *classes: int) -> Path:
    """Write a tile with its label in its name."""
    made = tile(case, number, *classes)
    label = " ".join(map(str, image_label(made.mask)))
    path = folder / f"case{case:02d}_{number:03d}-[{label}].png"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(made.image).save(path)
    return path


def write_training_tiles(folder: Path, cases: int = CASES) -> None:
    """Write, for each case, one tile of each class but one, and one of two classes."""
    for case in range(cases):
        for number in range(3):
            write_tile(folder, case, number, (case + number) % 4)
        write_tile(folder, case, 3, case, (case + 1) % 4)


def write_validation_tiles(folder: Path) -> None:
    """Write images, and their masks in both codings."""
    for number in range(4):
        path = write_tile(folder / "images", 8, number, number, (number + 1) % 4)
        mask = tile(8, number, number, (number + 1) % 4).mask
        positions = np.where(mask == 0, len(NAMES), mask.astype(int) - 1)
        for name, values in {"masks": mask, "positions": positions}.items():
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(folder / name / path.name)


def make_project(workspace: Path) -> None:
    request = NewProject(
        folder=workspace / "project",
        images=workspace / "tiles",
        classes=NAMES,
        case_pattern=CASE_PATTERN,
    )
    finish(new_project(request, now=NOW))


def record_images(
    folder: Path,
    images: Iterable[Path],
    names: Sequence[str],
    label: tuple[int, ...] | None = None,
    size: int = SIZE,
) -> Path:
    """Make a project in `folder` of images that are recorded unread: the hashes are made up.

    Without a label, nothing is known of them.
    """
    with Project.create(folder, ClassSchema.from_names(names), created=NOW) as project:
        project.add_images(
            ImageRecord(
                path=path,
                content_hash=f"{number:064x}",
                width=size,
                height=size,
                label=(-1,) * len(names) if label is None else label,
            )
            for number, path in enumerate(images)
        )
    return folder


def build(workspace: Path, **config: object) -> None:
    request = BankRequest(config=BankConfig.model_validate({"clusters": 1, **config}))
    with Project.open(workspace / "project") as project:
        finish(build_project_bank(project, request, device=CPU, now=NOW))


def tree(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder, and the names of its folders.

    What SQLite keeps beside a database while it is open counts where it holds records; who has
    it open does not.
    """
    return {
        path.relative_to(folder).as_posix(): (
            "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
        if not (path.name.endswith((".db-shm", ".lock")) or _is_empty_log(path))
    }


def _is_empty_log(path: Path) -> bool:
    return path.name.endswith(".db-wal") and path.stat().st_size == 0


@pytest.fixture(scope="session")
def made_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles, and a project of them with nothing more."""
    workspace = tmp_path_factory.mktemp("made") / "workspace"
    write_training_tiles(workspace / "tiles")
    write_validation_tiles(workspace / "validation")
    make_project(workspace)
    return workspace


@pytest.fixture(scope="session")
def banked_workspace(made_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a bank."""
    workspace = tmp_path_factory.mktemp("banked") / "workspace"
    shutil.copytree(made_workspace, workspace)
    build(workspace)
    return workspace


@pytest.fixture(scope="session")
def trained_workspace(banked_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, trained with the quick preset."""
    workspace = tmp_path_factory.mktemp("trained") / "workspace"
    shutil.copytree(banked_workspace, workspace)
    with Project.open(workspace / "project") as project:
        request = TrainRequest(preset=Preset.QUICK)
        finish(train_project(project, request, device=CPU, now=lambda: NOW))
    return workspace


@pytest.fixture(scope="session")
def both_stages_workspace(banked_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The banked one, with a round of each stage for one epoch, both with a tiny backbone."""
    workspace = tmp_path_factory.mktemp("both_stages") / "workspace"
    shutil.copytree(banked_workspace, workspace)
    weights = tiny_weights(workspace)
    short = {"epochs": 1, "batch_size": 8}
    first = TrainingConfig.model_validate({"backbone": TINY, **short})
    second = SegmentRequest(config=SECOND_STAGE.model_copy(update=short), start=Start.FIRST_STAGE)
    with Project.open(workspace / "project") as project:
        request = TrainRequest(config=first, backbone_weights=weights)
        finish(train_project(project, request, device=CPU, now=lambda: NOW))
        finish(segment_project(project, second, Recipe(), device=CPU, now=lambda: NOW))
    return workspace


@pytest.fixture
def made(made_workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_workspace, tmp_path / "made"))


@pytest.fixture
def banked(banked_workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(banked_workspace, tmp_path / "banked"))


@pytest.fixture
def trained(trained_workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_workspace, tmp_path / "trained"))


@pytest.fixture
def both_stages(both_stages_workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(both_stages_workspace, tmp_path / "both_stages"))
