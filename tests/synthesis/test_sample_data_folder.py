"""The sample data: what is committed is what the generator makes, and labels fit masks."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_protoseg.errors import ExportError
from napari_protoseg.events import Event, Job, Progress, Request
from napari_protoseg.schema import ClassSchema
from napari_protoseg.synthesis.__main__ import main
from napari_protoseg.synthesis.sample import (
    SAMPLE_SEED,
    TRAINING_CASES,
    VALIDATION_CASES,
    SampleData,
    image_label,
    write_sample_data,
)
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

SAMPLE = Path(__file__).parents[2] / "sample_data"
_NAME = re.compile(r"case(\d\d)_(\d\d\d)-\[([01](?: [01]){3})\]\.png")


def _parts(name: str) -> tuple[int, int, tuple[int, ...]]:
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return int(match[1]), int(match[2]), tuple(map(int, match[3].split()))


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _finish(job: Job[SampleData]) -> tuple[list[Event], SampleData]:
    events = []
    while True:
        try:
            events.append(next(job))
        except StopIteration as end:
            return events, end.value


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("place", ["train", "validation/images"])
def test_the_committed_tiles_are_the_generators_to_the_pixel(place: str) -> None:
    for path in sorted((SAMPLE / place).iterdir())[::12]:
        case, number, _ = _parts(path.name)
        tile = synthesize_tile(SAMPLE_SEED, case, number)

        assert np.array_equal(_pixels(path), tile.image), path.name
        if place != "train":
            assert np.array_equal(_pixels(SAMPLE / "validation/masks" / path.name), tile.mask)


def test_the_committed_sample_has_120_training_and_24_validation_tiles_of_other_cases() -> None:
    training = [_parts(path.name)[0] for path in (SAMPLE / "train").iterdir()]
    validation = [_parts(path.name)[0] for path in (SAMPLE / "validation/images").iterdir()]

    assert len(training) == 120
    assert len(validation) == 24
    assert set(training) == set(TRAINING_CASES)
    assert set(validation) == set(VALIDATION_CASES)


def test_the_labels_in_validation_names_agree_with_the_masks() -> None:
    for path in (SAMPLE / "validation/masks").iterdir():
        assert _parts(path.name)[2] == image_label(_pixels(path)), path.name


def test_the_label_table_agrees_with_the_names_of_all_images() -> None:
    rows = _rows(SAMPLE)

    images = {
        path.relative_to(SAMPLE).as_posix()
        for place in ("train", "validation/images")
        for path in (SAMPLE / place).iterdir()
    }
    assert sorted(row["file"] for row in rows) == sorted(images)
    for row in rows:
        case, _, label = _parts(Path(row["file"]).name)
        assert row["case"] == f"case{case:02d}"
        assert tuple(int(row[name]) for name in TISSUE_SCHEMA.names) == label


def test_every_class_has_training_tiles_of_its_own_and_mixed_ones() -> None:
    labels = np.array([_parts(path.name)[2] for path in (SAMPLE / "train").iterdir()])
    alone = labels.sum(axis=1) == 1

    assert (labels[alone].sum(axis=0) >= 4).all()
    assert (labels[~alone].sum(axis=0) >= 15).all()


def test_masks_are_indexed_with_the_colours_of_the_classes() -> None:
    path = next((SAMPLE / "validation/masks").iterdir())
    with Image.open(path) as image:
        assert image.mode == "P"
        palette = bytes(image.getpalette() or [])

    for known in TISSUE_SCHEMA.classes:
        assert palette[3 * known.id : 3 * known.id + 3].hex() == known.color[1:].lower()


def test_the_committed_schema_is_the_generators() -> None:
    assert ClassSchema.read(SAMPLE / "classes.json") == TISSUE_SCHEMA


def test_the_sample_data_stays_under_16_megabytes() -> None:
    assert sum(path.stat().st_size for path in _files(SAMPLE)) < 16_000_000


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_tissue(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _finish(write_sample_data(tmp_path / name, seed=seed, training_tiles=3, validation_tiles=2))

    def contents(name: str) -> dict[str, bytes]:
        folder = tmp_path / name
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in _files(folder)}

    assert contents("a") == contents("b")
    pixels = [{v for k, v in contents(n).items() if k.endswith(".png")} for n in ("a", "c")]
    assert not pixels[0] & pixels[1]


def test_writing_tells_its_progress_and_returns_where_things_are(tmp_path: Path) -> None:
    events, data = _finish(
        write_sample_data(tmp_path / "out", seed=1, training_tiles=2, validation_tiles=1)
    )

    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]
    assert data.images == 3
    assert len(_files(data.training)) == 2
    assert [p.name for p in _files(data.validation_images)] == [
        p.name for p in _files(data.validation_masks)
    ]
    assert data.labels.is_file()
    assert data.classes.is_file()


def test_a_stopped_job_leaves_a_table_that_fits_the_files(tmp_path: Path) -> None:
    job = write_sample_data(tmp_path / "out", seed=1, training_tiles=5, validation_tiles=1)
    next(job)
    with pytest.raises(StopIteration) as end:
        job.send(Request.STOP)

    assert end.value.value.images == 1
    assert [row["file"] for row in _rows(tmp_path / "out")] == [
        path.relative_to(tmp_path / "out").as_posix() for path in _files(tmp_path / "out/train")
    ]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")

    with pytest.raises(ExportError, match="not empty"):
        next(write_sample_data(tmp_path))

    assert [path.name for path in _files(tmp_path)] == ["mine.txt"]


def test_the_command_tells_what_is_wrong_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")

    assert main([str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
