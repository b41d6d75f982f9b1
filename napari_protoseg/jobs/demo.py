"""The demonstration: the whole way from image-level labels to measured masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.evaluation.scores import Scores
from napari_protoseg.evaluation.table import aligned
from napari_protoseg.evaluation.trivial import Trivial
from napari_protoseg.events import Job, Notice
from napari_protoseg.exports.contact_sheet import SheetRow, write_contact_sheet
from napari_protoseg.exports.folder import vacant
from napari_protoseg.images.reading import read_image
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.batches import predict_batches
from napari_protoseg.jobs.export import export_project
from napari_protoseg.jobs.export_plan import ExportFormat
from napari_protoseg.jobs.measure import Measured, measure_trivial, measuring
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.preparation import TrainRequest, frozen_evidence
from napari_protoseg.jobs.records import image_record
from napari_protoseg.jobs.train import train_project
from napari_protoseg.jobs.truth import true_mask
from napari_protoseg.labels.reader import read_labels
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelKind
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Split
from napari_protoseg.schema import ClassSchema
from napari_protoseg.synthesis.sample import SAMPLE_SEED, write_sample_data
from napari_protoseg.training.config import PLAIN, PRESETS, Preset

_CASE_PATTERN = r"(case\d+)_"
_SHEET_ROWS = 8


class DemoRequest(BaseModel):
    """What is asked of the demonstration.

    Parameters
    ----------
    out
        A new or empty folder.
    data
        Sample data that is there already; None to make it in `out`.
    generator_seed
        Seed of sample data to make; None for that of the data that comes with the project.
    compare
        Also train a plain class activation map.
    seed
        Of bank and training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path
    data: Path | None = None
    generator_seed: int | None = None
    compare: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """Figures of one kind of prediction on the validation tiles.

    Parameters
    ----------
    name
        What predicts.
    given, predicted
        With given and with predicted image-level labels; None where there is no such thing.
    """

    name: str
    given: Scores
    predicted: Measured | None


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration showed.

    Parameters
    ----------
    out
        Its folder.
    sheet
        The contact sheet.
    schema
        The classes.
    rows
        The figures.
    """

    out: Path
    sheet: Path
    schema: ClassSchema
    rows: tuple[Row, ...]

    def text(self) -> str:
        """Return the figures as a table, and where to look."""
        titles = ["", *self.schema.names, "mIoU", "mIoU, predicted labels"]
        found = [["", *self.schema.names], *(_f1_cells(row) for row in self.rows if row.predicted)]
        return "\n".join(
            [
                "IoU on the validation tiles; given image-level labels unless said otherwise, "
                "background ignored:",
                "",
                *aligned([titles, *(_cells(row) for row in self.rows)]),
                "",
                "Image-level F1 on the validation tiles, of the classes that a model finds itself:",
                "",
                *aligned(found),
                "",
                f"Masks of the training tiles: {self.out / 'masks'}",
                f"Image, class maps, mask and truth: {self.sheet}",
                f"The project: {self.out / 'project'}",
            ]
        )

    def record(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "out": str(self.out),
            "contact_sheet": str(self.sheet),
            "protocol": "background ignored, project masks",
            "predictions": {
                row.name: {
                    "given labels": row.given.model_dump(mode="json"),
                    "predicted labels": None
                    if row.predicted is None
                    else row.predicted.scores.model_dump(mode="json"),
                    "image-level F1": None
                    if row.predicted is None
                    else {
                        name: None if math.isnan(f1) else f1
                        for name, f1 in zip(
                            self.schema.names, row.predicted.image_level_f1, strict=True
                        )
                    },
                }
                for row in self.rows
            },
        }


def run_demo(
    request: DemoRequest, *, device: torch.device, now: Callable[[], datetime]
) -> Job[Demonstration | None]:
    """Make a project of the sample data, train it, and measure it on the validation tiles.

    The validation masks are measured on alone: the best epoch is chosen on held-out cases.

    Returns
    -------
    Demonstration or None
        None after a stop.

    Raises
    ------
    ExportError
        The folder holds something.
    ProtosegError
    """
    out = request.out
    vacant(out)
    data = request.data
    if data is None:
        seed = SAMPLE_SEED if request.generator_seed is None else request.generator_seed
        data = out / "data"
        yield from write_sample_data(data, seed=seed)
    project_request = NewProject(
        folder=out / "project",
        images=data / "train",
        schema_file=data / "classes.json",
        case_pattern=_CASE_PATTERN,
    )
    made = yield from new_project(project_request, now=now())
    for line in made.report.lines():
        yield Notice(line)
    with Project.open(made.folder) as project:
        validation = yield from _validation(data, project.schema)
        bank_request = BankRequest(config=BankConfig(seed=request.seed))
        bank = yield from build_project_bank(project, bank_request, device=device, now=now())
        if bank is None:
            return None
        rows = [
            Row(f"Trivial: {kind.value}", measure_trivial(kind, validation, project.schema), None)
            for kind in Trivial
        ]
        evidence = frozen_evidence(project, device=device)
        given = yield from _measured(evidence, Recipe(), validation, project, device)
        if given is None:
            return None
        rows.append(Row("Frozen evidence", given.scores, None))
        yield Notice(f"Frozen evidence: mIoU {rows[-1].given.mean_iou:.3f}, without training.")
        config = PRESETS[Preset.STANDARD].model_copy(update={"seed": request.seed})
        requests = {"Trained masks": TrainRequest(config=config)}
        if request.compare:
            cam = TrainRequest(
                kind=ModelKind.PLAIN_CAM,
                config=PLAIN.model_copy(update={"seed": request.seed}),
            )
            requests = {"Plain CAM": cam, **requests}
        for name, train_request in requests.items():
            yield Notice(f"{name}:")
            ended = yield from train_project(project, train_request, device=device, now=now)
            if ended is None or not ended.finished:
                return None
            model = trained_model(project).model
            given = yield from _measured(model, Recipe(), validation, project, device)
            if given is None:
                return None
            recipe = Recipe(labels=LabelCondition.PREDICTED)
            predicted = yield from _measured(model, recipe, validation, project, device)
            if predicted is None:
                return None
            rows.append(Row(name, given.scores, predicted))
        exported = yield from export_project(
            project, ExportFormat.PNG, out / "masks", Recipe(), device=device, now=now()
        )
        if exported is None:
            return None
        sheet = out / "contact-sheet.png"
        predictor = Predictor(trained_model(project).model, project.schema.ids, Recipe(), device)
        write_contact_sheet(
            sheet, _sheet_rows(predictor, validation, project.schema), project.schema
        )
        return Demonstration(out, sheet, project.schema, tuple(rows))


def _validation(data: Path, schema: ClassSchema) -> Job[list[ImageRecord]]:
    """Read the validation tiles, with their masks."""
    folder = data / "validation"
    reading = yield from read_labels(folder / "images", schema=schema)
    return [
        image_record(image, split=Split.VALIDATION, mask_path=folder / "masks" / image.path.name)
        for image in reading.images
    ]


def _measured(
    model: MapModel,
    recipe: Recipe,
    images: Sequence[ImageRecord],
    project: Project,
    device: torch.device,
) -> Job[Measured | None]:
    predictor = Predictor(model, project.schema.ids, recipe, device)
    return (yield from measuring(predictor, images, project.schema))


def _sheet_rows(
    predictor: Predictor, images: Sequence[ImageRecord], schema: ClassSchema
) -> list[SheetRow]:
    """Take those validation tiles that hold most classes, which say most."""
    telling = sorted(images, key=lambda image: -sum(v == 1 for v in image.label))[:_SHEET_ROWS]
    return [
        SheetRow(
            caption=image.path.stem,
            image=read_image(image.path),
            masks={"mask": mask, "truth": true_mask(image, schema)},
            class_maps=class_maps,
        )
        for batch, prediction in predict_batches(predictor, telling)
        for image, class_maps, mask in zip(
            batch, prediction.class_maps, prediction.masks, strict=True
        )
    ]


def _f1_cells(row: Row) -> list[str]:
    assert row.predicted is not None
    return [row.name, *(_figure(value) for value in row.predicted.image_level_f1)]


def _cells(row: Row) -> list[str]:
    measured = row.predicted
    return [
        row.name,
        *(_figure(c.iou) for c in row.given.classes),
        _figure(row.given.mean_iou),
        "" if measured is None else _figure(measured.scores.mean_iou),
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
