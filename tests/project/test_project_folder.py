from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from napari_protoseg.errors import ProjectError, SchemaError
from napari_protoseg.project import ImageRecord, Project, RoundStatus, Split
from napari_protoseg.schema import PALETTE, ClassSchema, TissueClass

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
ODD_NAMES = [
    "плитка [1 0 1].png",
    "瓦片.png",
    "emoji 🔬.png",
    "quote ' \" ; DROP TABLE images; --.png",
    "new\nline.png",
    "\u202eright-to-left.png",
    "%20 # ? &.png",
    " leading and trailing ",
]


def image(path: Path, content: str, **changes: object) -> ImageRecord:
    fields: dict[str, object] = {
        "path": path,
        "content_hash": content,
        "width": 32,
        "height": 48,
        "label": (1, 0, -1),
    }
    return ImageRecord(**(fields | changes))  # type: ignore[arg-type]


def test_an_opened_project_holds_what_was_created(tmp_path: Path) -> None:
    Project.create(tmp_path / "new" / "project", SCHEMA, created=NOW).close()
    with Project.open(tmp_path / "new" / "project") as project:
        assert project.schema == SCHEMA
        assert project.images() == ()
        assert project.latest_bank() is None
        assert project.latest_round() is None
        assert project.folder == tmp_path / "new" / "project"


def test_images_come_back_as_they_were_added_in_the_order_of_their_paths(tmp_path: Path) -> None:
    first = image(
        tmp_path / "tiles" / "a.png",
        "hash a",
        micrometres_per_pixel=0.5,
        case="case 7",
        split=Split.VALIDATION,
        mask_path=tmp_path / "masks" / "a.png",
        label=(0, 1, 1),
    )
    second = image(tmp_path / "tiles" / "b.png", "hash b", label=(-1, -1, -1))
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images([second, first])
        read = project.images()
        assert [record.path.name for record in read] == ["a.png", "b.png"]
        assert read[0] == image(
            tmp_path / "tiles" / "a.png",
            "hash a",
            micrometres_per_pixel=0.5,
            case="case 7",
            split=Split.VALIDATION,
            mask_path=tmp_path / "masks" / "a.png",
            label=(0, 1, 1),
            id=read[0].id,
        )
        assert read[0].id is not None
        assert read[1].label == (-1, -1, -1)
        assert project.images(Split.VALIDATION) == read[:1]
        assert project.images(Split.TRAIN) == read[1:]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_of_images_cases_and_projects_come_back(tmp_path: Path, name: str) -> None:
    with Project.create(tmp_path / f"project {name}", SCHEMA, created=NOW) as project:
        project.add_images([image(tmp_path / name / name, "hash", case=name)], label_source=name)
    with Project.open(tmp_path / f"project {name}") as project:
        (read,) = project.images()
    assert read.path == tmp_path / name / name
    assert read.case == name


def test_a_name_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        with pytest.raises(ProjectError, match=r"not valid UTF-8.*Rename"):
            project.add_images([image(tmp_path / "bad\udcff.png", "hash")])
        assert project.images() == ()


def test_project_and_images_move_together(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there" / "deeper"
    with Project.create(here / "project", SCHEMA, created=NOW) as project:
        project.add_images(
            [
                image(here / "tiles" / "a.png", "a", mask_path=here / "masks" / "a.png"),
                image(here / "project" / "inside.png", "b"),
            ]
        )
        project.add_bank(b"bank", "{}", SCHEMA.fingerprint, created=NOW)
        project.new_round(1, "{}", created=NOW)
    there.parent.mkdir()
    shutil.move(here, there)
    with Project.open(there / "project") as project:
        outside, inside = project.images()
        assert outside.path == there / "tiles" / "a.png"
        assert outside.mask_path == there / "masks" / "a.png"
        assert inside.path == there / "project" / "inside.png"
        assert project.bank(1).path.read_bytes() == b"bank"
        begun = project.latest_round()
        assert begun is not None
        assert begun.folder == there / "project" / "runs" / "0001"
        assert begun.folder.is_dir()


def test_a_linked_folder_is_resolved_and_a_linked_image_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "disk" / "tiles").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "tiles")
    (tmp_path / "disk" / "tiles" / "[1 0 1].png").symlink_to(tmp_path / "elsewhere.png")
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images([image(tmp_path / "link" / "[1 0 1].png", "a")])
        assert project.images()[0].path == tmp_path / "disk" / "tiles" / "[1 0 1].png"


@pytest.mark.parametrize(
    ("twin", "reason"),
    [
        (("other.png", "hash a"), r"the same image, as .*a\.png"),
        (("a.png", "hash b"), "this path is in the project already"),
    ],
)
def test_an_image_is_added_once_and_a_refusal_adds_nothing(
    tmp_path: Path, twin: tuple[str, str], reason: str
) -> None:
    name, content = twin
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images([image(tmp_path / "a.png", "hash a")])
        with pytest.raises(ProjectError, match=reason):
            project.add_images(
                [image(tmp_path / "c.png", "hash c"), image(tmp_path / name, content)]
            )
        assert [record.path.name for record in project.images()] == ["a.png"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": (1, 0)}, "2 labels for 3 classes"),
        ({"label": (1, 0, 2)}, "something else than 1, 0 and -1"),
        ({"width": 0}, "0 x 48 px"),
        ({"micrometres_per_pixel": -1.0}, "-1.0 micrometres"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        with pytest.raises(ProjectError, match=f"a.png.*{reason}"):
            project.add_images([image(tmp_path / "a.png", "a", **changes)])
        assert project.images() == ()


def test_a_new_class_is_unknown_for_the_images_that_are_there(tmp_path: Path) -> None:
    added = TissueClass(id=9, name="glass", color=PALETTE[4])
    longer = ClassSchema(classes=(added, *SCHEMA.classes), retired=(7,))
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images([image(tmp_path / "a.png", "a", label=(1, 0, -1))])
        project.set_schema(longer, created=NOW)
        assert project.images()[0].label == (-1, 1, 0, -1)
    with Project.open(tmp_path / "project") as project:
        assert project.schema == longer


def test_a_schema_that_takes_ids_away_or_back_is_refused(tmp_path: Path) -> None:
    retired = ClassSchema(classes=SCHEMA.classes, retired=(7,))
    with Project.create(tmp_path / "project", retired, created=NOW) as project:
        for other in (SCHEMA, ClassSchema(classes=SCHEMA.classes[:2], retired=(3, 7))):
            with pytest.raises(SchemaError, match=r"1 tumour.*retired ids 7"):
                project.set_schema(other, created=NOW)
        assert project.schema == retired


def test_each_bank_that_is_added_is_a_new_version_with_a_file_of_its_own(tmp_path: Path) -> None:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        bank = project.add_bank(b"bank", '{"k": 3}', SCHEMA.fingerprint, created=NOW)
        assert (bank.version, bank.path) == (
            1,
            tmp_path / "project" / "banks" / "0001.safetensors",
        )
        assert bank.path.read_bytes() == b"bank"
        assert project.latest_bank() == project.bank(1) == bank
        second = project.add_bank(b"other", "{}", SCHEMA.fingerprint, created=NOW)
        assert second.version == 2
        assert (bank.path.read_bytes(), second.path.read_bytes()) == (b"bank", b"other")
        with pytest.raises(ProjectError, match="no bank 3"):
            project.bank(3)


def test_a_round_is_found_by_its_status_with_its_figures(tmp_path: Path) -> None:
    later = NOW.astimezone(timezone(timedelta(hours=5))) + timedelta(minutes=3)
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        with pytest.raises(ProjectError, match="contradicts"):
            project.new_round(1, "{}", created=NOW)
        project.add_bank(b"bank", "{}", SCHEMA.fingerprint, created=NOW)
        first = project.new_round(1, '{"epochs": 2}', created=NOW)
        second = project.new_round(1, "{}", created=NOW)
        assert first.folder == tmp_path / "project" / "runs" / "0001"
        assert second.folder.is_dir()
        project.update_round(1, RoundStatus.RUNNING, metrics_json='{"loss": 0.5}')
        project.update_round(1, RoundStatus.FINISHED, finished=later)
        done = project.latest_round([RoundStatus.FINISHED, RoundStatus.STOPPED])
        assert done is not None
        assert (done.id, done.config_json, done.metrics_json) == (
            1,
            first.config_json,
            '{"loss": 0.5}',
        )
        assert (done.created, done.finished) == (NOW, later)
        assert project.latest_round() == second
        assert project.latest_round([RoundStatus.FAILED]) is None
        with pytest.raises(ProjectError, match="no round 3"):
            project.update_round(3, RoundStatus.FAILED)


def test_two_threads_add_and_read_at_once(tmp_path: Path) -> None:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:

        def add(start: int) -> None:
            for number in range(start, start + 25):
                project.add_images([image(tmp_path / f"{number:03d}.png", str(number))])
                assert len(project.images()) > number - start

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(add, (0, 100)))
        assert len(project.images()) == 50


def test_a_folder_that_holds_something_is_not_made_a_project(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ProjectError, match=r"not empty \(it holds 'thesis.txt'\)"):
        Project.create(tmp_path, SCHEMA, created=NOW)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_project_is_not_created_over(tmp_path: Path) -> None:
    Project.create(tmp_path, SCHEMA, created=NOW).close()
    before = (tmp_path / "project.db").read_bytes()
    with pytest.raises(ProjectError, match="a project already"):
        Project.create(tmp_path, SCHEMA, created=NOW)
    assert (tmp_path / "project.db").read_bytes() == before


def test_what_a_killed_creation_left_does_not_bar_the_next(tmp_path: Path) -> None:
    (tmp_path / ".project.db.abc123").write_bytes(b"half")
    with Project.create(tmp_path, SCHEMA, created=NOW) as project:
        assert project.schema == SCHEMA
