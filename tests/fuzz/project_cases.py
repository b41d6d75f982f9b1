"""Hostile projects: databases and arrays."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from database_damage import SCHEMA, change_rows
from drawing import draw
from driven_jobs import finish, stop_after
from fuzzed_reader import FuzzedReader
from mutations import NUMBERS, changed_json, damaged, json_text
from planted_masks import plant_mask

from napari_protoseg.encoders.cache import FeatureCache
from napari_protoseg.errors import MissingError, ProjectError, SchemaError
from napari_protoseg.jobs.backup import back_up
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.class_impact import class_impact
from napari_protoseg.jobs.info import describe_project
from napari_protoseg.jobs.made_of import MadeOf, recorded_making, relabelled
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Project,
    ReviewStatus,
    RoundStatus,
    Split,
)
from napari_protoseg.project.lock import LOCK, LockOwner
from napari_protoseg.review.journal import recover
from napari_protoseg.training import checkpoint  # noqa: F401 (a check imports it late)

_FOREIGN = "not of the project"
_NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
# Ids of classes that go, in this order, each with that of the class that it is merged into.
_GONE: tuple[tuple[tuple[int, int | None], ...], ...] = (
    (),
    ((2, None),),
    ((3, 2), (2, 1)),
)
# What later formats have added, to be taken away again.
_ADDED = {
    5: "DROP TABLE former_labels; ALTER TABLE banks DROP COLUMN made_of;"
    "ALTER TABLE rounds DROP COLUMN made_of; ALTER TABLE masks DROP COLUMN labels;",
    4: "DROP TABLE edits; DROP TABLE journals; DROP TABLE people;"
    "ALTER TABLE rounds DROP COLUMN stage;",
    3: "ALTER TABLE masks DROP COLUMN bank_version;",
    2: "DROP TABLE muted_prototypes; DROP TABLE reviews; ALTER TABLE masks DROP COLUMN corrected;"
    "ALTER TABLE masks DROP COLUMN corrected_by;",
}
_OWNER = json.loads(LockOwner(host="elsewhere", process=7, since=_NOW).model_dump_json())


@cache
def _valid(gone: tuple[tuple[int, int | None], ...]) -> dict[str, bytes]:
    """Return the files of a project by their paths in it, after classes went."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "project"
        with Project.create(folder, SCHEMA, created=_NOW) as project:
            project.set_schema(SCHEMA, created=_NOW)
            project.add_images(
                ImageRecord(
                    path=folder / "images" / f"{number}.png",
                    content_hash=str(number),
                    width=40 + number // 3,
                    height=36,
                    label=(1, number % 2, number % 3 - 1),
                    split=Split.VALIDATION if number == 3 else Split.TRAIN,
                    mask_path=folder / "truth.png" if number == 3 else None,
                    micrometres_per_pixel=0.5,
                )
                for number in range(4)
            )
            made_of = MadeOf.of(project, project.images()).model_dump_json()
            version = project.add_bank(
                b"bank", "{}", SCHEMA.fingerprint, created=_NOW, made_of_json=made_of
            ).version
            project.set_muted_prototypes(version, (0, 2))
            project.set_recipe_json("{}")
            begun = project.new_round(version, "{}", created=_NOW, made_of_json=made_of)
            project.update_round(begun.id, RoundStatus.FINISHED, metrics_json="{}", finished=_NOW)
            source = MaskSource(
                round_id=begun.id,
                label_condition="given",
                recipe_json="{}",
                created=_NOW,
                labels="1+ 2- 3?",
            )
            for image in project.images():
                mask = np.full((image.height, image.width), 1, np.uint8)
                project.write_mask(
                    PredictedMask(image.known_id, mask, np.full(mask.shape, 0.5, np.float16)),
                    source,
                )
            draw(project, 1, np.full((36, 40), 2, np.uint8), person="a person", now=_NOW)
            project.set_review_status(2, ReviewStatus.FLAGGED)
            for class_id, heir in gone:
                project.remove_class(class_id, heir, created=_NOW)
        with closing(sqlite3.connect(folder / "project.db")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


def _make(random: Random, folder: Path) -> Path:
    project = folder / random.choice(("project", "project", "two\nlines", "\u202egnp", "<b>x<b>"))
    for name, content in _valid(random.choice(_GONE)).items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(content)
    if random.random() < 0.15:
        plant_mask(random, project)
        if random.random() < 0.5:  # nothing else hides it
            return project
    if random.random() < 0.15:
        _make_older(random, project / "project.db")
    if random.random() < 0.2:
        _leave_behind(random, project)
    if random.random() < 0.1:
        _place_lock(random, project / LOCK)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if random.random() < 0.55:
            change_rows(random, project / "project.db")
        elif random.random() < 0.5:
            _change_arrays(random, project / "arrays.zarr")
        else:
            _change_files(random, project)
    if random.random() < 0.08:
        _lead_out(random, project)
    if random.random() < 0.05:
        _put_something_else(random, project / "project.db")
    return project


def _make_older(random: Random, database: Path) -> None:
    """Turn the database into one of an earlier format, with what that could hold."""
    version = random.randint(1, 4)
    with closing(sqlite3.connect(database)) as connection:
        later = "".join(_ADDED[number] for number in _ADDED if number > version)
        connection.executescript(f"{later} PRAGMA user_version = {version}")


def _leave_behind(random: Random, project: Path) -> None:
    """Leave what no row names, and what killed programs were writing."""
    names = (
        ".project.json.ab_d1234", "banks/.2.safetensors.abcd1234", "banks/9.safetensors",
        "runs/77/best.safetensors", "runs/77/.best.safetensors.abcd1234", "truth/1.png",
        "truth/.1.png.abcd1234", "cache/a/b/.half/part", "cache/a/b/whole", ".backup-1/banks/1",
        "banks/two\nlines", "arrays.zarr/masks/.zarr.json.abcd1234",
    )  # fmt: skip
    for name in random.sample(names, random.randint(1, 4)):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(b"left")


def _lead_out(random: Random, project: Path) -> None:
    """Put a link to a folder that is not the project's in the place of one that is."""
    foreign = project.parent / _FOREIGN
    for name in ("1.png", ".1.png.abcd1234", "a/.b/part", "c/0", "masks/.zarr.json.abcd1234"):
        (foreign / name).parent.mkdir(parents=True, exist_ok=True)
        (foreign / name).write_bytes(b"foreign")
    folders = [path for path in (project / "arrays.zarr").rglob("*") if path.is_dir()]
    places = ("banks", "runs", "truth", "cache", "arrays.zarr", "runs/1", "cache/features")
    place = random.choice((*(project / name for name in places), *folders))
    if place.parent.is_symlink() or place.parent.is_file():
        return
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    leads_to = random.choice((foreign, foreign, foreign, project, place.parent, place))
    place.symlink_to(leads_to, target_is_directory=True)


def _foreign(project: Path) -> dict[Path, bytes]:
    """Return what there is in the folder that is not the project's."""
    files = (path for path in (project.parent / _FOREIGN).rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


def _place_lock(random: Random, path: Path) -> None:
    if random.random() < 0.3:
        # Of this process as it is, as another that had its number, or of another machine.
        now = json.loads(LockOwner.here().model_dump_json())
        changed = random.choice(
            ({}, {"ticks": 1}, {"boot": "another"}, {"ticks": None, "started": 1.0}, _OWNER)
        )
        path.write_text(json.dumps({**now, **changed}))
        return
    here = {**_OWNER, "host": socket.gethostname()}
    owner = random.choice((_OWNER, here, here))
    owner = {**owner, "process": random.choice((7, 2**22 + 1, 2**40, -1, 0, os.getpid()))}
    match random.randrange(8):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(random.choice((path, path.with_name("project.db"))))
        case 3:
            path.write_bytes(bytes(10**7))
        case 4:
            moments = ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "1e308", 2**62)
            path.write_text(json.dumps({**owner, "since": random.choice(moments)}))
        case 5:
            path.write_text(json.dumps({**owner, "started": random.choice(NUMBERS)}))
        case _:
            path.write_bytes(json_text(random, owner))


_CODECS: tuple[dict[str, object], ...] = (
    {"name": "gzip", "configuration": {"level": 1}},
    {"name": "of.another.program"},
    {"name": "crc32c"},
)


def _change_arrays(random: Random, arrays: Path) -> None:
    files = sorted(path for path in arrays.rglob("*") if path.is_file())
    if not files:
        return
    file = random.choice(files)
    if file.name != "zarr.json" or random.random() < 0.1:
        if random.random() < 0.2:
            file.unlink()
        elif random.random() < 0.2:
            _put_a_pipe(file)
        else:
            file.write_bytes(damaged(random, file.read_bytes()))
        return
    if random.random() < 0.1:
        _put_a_pipe(file)
        return
    try:
        document = json.loads(file.read_bytes())
    except ValueError:  # an earlier change
        return
    if "shape" in document and random.random() < 0.6:
        huge = random.choice((0, -1, 1, 2**20, 2**40, 2**63, 1e300, "x"))
        match random.randrange(8):
            case 0:
                document["shape"][random.randrange(3)] = huge
            case 1:
                document["chunk_grid"]["configuration"]["chunk_shape"][random.randrange(3)] = huge
            case 2:
                inner = document["codecs"][0].get("configuration", {})
                inner["chunk_shape"] = [random.choice((1, huge)) for _ in range(3)]
            case 3:
                document["data_type"] = random.choice(("float64", "object", "uint16", "V8", "r8"))
            case 4 | 5 | 6:
                inner = document["codecs"][0].get("configuration", {})
                if "codecs" in inner:
                    inner["codecs"][-1] = random.choice(_CODECS)
            case _:
                document["fill_value"] = random.choice((None, "NaN", 1e308, 10**40, [1], "x"))
        file.write_text(json.dumps(document))
    else:
        document = changed_json(random, document)
        file.write_bytes(
            json.dumps(document).encode() if random.random() < 0.5 else json_text(random, document)
        )


def _put_a_pipe(place: Path) -> None:
    place.unlink(missing_ok=True)
    os.mkfifo(place)


def _change_files(random: Random, project: Path) -> None:
    database, arrays = project / "project.db", project / "arrays.zarr"
    if not database.is_file() or not arrays.is_dir() or arrays.is_symlink():
        return
    match random.randrange(11):
        case 0:
            database.unlink()
            database.mkdir()
        case 1:
            database.write_bytes(b"")
        case 2:
            shutil.rmtree(arrays)
            arrays.write_bytes(b"")
        case 3:
            shutil.rmtree(arrays)
            arrays.symlink_to(random.choice((arrays, project, project / "nowhere")))
        case 4:
            (project / "project.db-wal").write_bytes(random.randbytes(5000))
        case 5:
            (project / "project.db-journal").write_bytes(
                b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + random.randbytes(5000)
            )
        case 6:
            content = database.read_bytes().ljust(4096, b"\0")
            page = random.randrange(len(content) // 4096) * 4096
            changed = damaged(random, content[page : page + 4096])[:4096].ljust(4096, b"\0")
            database.write_bytes(content[:page] + changed + content[page + 4096 :])
        case 7:
            content = database.read_bytes()
            place = random.randrange(100)
            database.write_bytes(content[:place] + random.randbytes(1) + content[place + 1 :])
        case 8:
            database.unlink()
            database.symlink_to(random.choice((database, project)))
        case 9:
            shutil.rmtree(project / "cache", ignore_errors=True)
            (project / "cache").write_bytes(b"")
        case _:
            database.write_bytes(damaged(random, database.read_bytes()))


def _put_something_else(random: Random, database: Path) -> None:
    """Put a pipe, or a file of another folder, in the place of the database or one beside it."""
    foreign = database.parents[1] / _FOREIGN / database.name
    place = database.with_name(f"project.db{random.choice(('', '-journal', '-wal', '-shm'))}")
    if not database.is_file():  # an earlier change
        return
    foreign.parent.mkdir(exist_ok=True)
    shutil.copyfile(database, foreign)
    place.unlink(missing_ok=True)
    match random.randrange(3):
        case 0:
            os.mkfifo(place)
        case 1:
            place.symlink_to(foreign)
        case _:
            place.hardlink_to(foreign)


def _read(path: Path, random: Random) -> None:
    before = _foreign(path)
    try:
        _read_project(path, random)
    finally:
        assert _foreign(path) == before


def _read_project(path: Path, random: Random) -> None:
    with Project.open(path, take_over=random.random() < 0.2) as project:
        project.lock_notice()
        if random.random() < 0.3:  # first of all: what refuses the rest is told of here
            _check(project, random)
        project.earlier_schemas()
        images = project.images()
        assert project.schema.ids
        project.present_classes(Split.TRAIN)
        bank = project.latest_bank()
        if bank is not None:
            assert bank.path.is_relative_to(project.folder)
            project.bank(bank.version)
            project.muted_prototypes(bank.version)
        latest = project.latest_round()
        if latest is not None:
            assert latest.folder.is_relative_to(project.folder)
        for result in (*project.banks(), *project.rounds()):
            recorded_making(result)
        project.recipe_json()
        relabelled(project, project.mask_summaries())
        project.review_states()
        project.removed_classes()
        if random.random() < 0.2:
            describe_project(project)
            finish(class_impact(project, project.schema.ids[0], None))
        for image in images:
            assert "\0" not in str(image.path)
            project.image(image.known_id)
            _read_mask(project, image)
        if not project.is_read_only and random.random() < 0.3:
            _change_classes(project, random)
        if not project.is_read_only and random.random() < 0.3:
            _write(project, images)
        if random.random() < 0.1:
            _back_up(project)


def _check(project: Project, random: Random) -> None:
    stops = random.random() < 0.2
    job = check_project(project, repair=random.random() < 0.4, images=random.random() < 0.8)
    report, _ = finish(job, stop_after(random.randint(1, 12)) if stops else lambda event: None)
    assert stops or report.is_complete
    report.lines()
    report.record()


def _write(project: Project, images: Sequence[ImageRecord]) -> None:
    """Bring masks up to date, store one, and keep the budget of the cache."""
    recover(project)
    FeatureCache(project.cache / "features", 0).evict()
    for image in (known for known in images[:1] if known.height * known.width < 10**6):
        mask = np.full((image.height, image.width), project.schema.ids[0], np.uint8)
        confidence = np.full(mask.shape, 0.5, np.float16)
        source = MaskSource(
            round_id=None, label_condition="given", recipe_json="{}", created=_NOW, labels=None
        )
        with _named_by(image):
            project.write_mask(PredictedMask(image.known_id, mask, confidence), source)


def _back_up(project: Project) -> None:
    copy, _ = finish(back_up(project, project.folder.parent / f"copy-{project.folder.name}"))
    assert not any(path.is_symlink() for path in copy.folder.rglob("*"))


def _change_classes(project: Project, random: Random) -> None:
    """Let a class come back, or go."""
    known = (*project.schema.names, *(gone.known.name for gone in project.removed_classes()))
    for image in project.images()[:2]:
        label = [random.choice((1, 0, -1)) for _ in project.schema.ids]
        project.set_labels({image.known_id: label}, source="a person")
    try:
        if random.random() < 0.6:
            project.restore_class(created=_NOW)
        elif len(project.schema.ids) > 1:
            gone, heir, *_ = random.sample(project.schema.ids, 2)
            project.remove_class(gone, random.choice((heir, None)), created=_NOW)
    except SchemaError as error:
        # A class is named by itself.
        if error.where not in known:
            raise


def _read_mask(project: Project, image: ImageRecord) -> None:
    with _named_by(image):
        mask = project.read_mask(image.known_id)
        assert mask is None or mask.mask.shape == (image.height, image.width)


@contextmanager
def _named_by(image: ImageRecord) -> Iterator[None]:
    """Let errors pass that name a mask by its image."""
    try:
        yield
    except (ProjectError, MissingError) as error:
        if error.where != f"image {image.id}":
            raise


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=4_000,
    code={
        "napari_protoseg/project/database.py": (
            "Database.open", "Database.reading", "_format_version",
        ),
        "napari_protoseg/project/sqlite_errors.py": ("sqlite_errors",),
        "napari_protoseg/project/arrays.py": (
            "ArrayFolder.read", "ArrayFolder._part", "ArrayFolder._found", "ArrayFolder._errors",
            "_are_known",
        ),
        "napari_protoseg/project/lock.py": (
            "ProjectLock._read", "ProjectLock.other", "ProjectLock.notice", "_owner_of", "_in_utc",
            "LockOwner.is_gone", "LockOwner.__str__",
        ),
        "napari_protoseg/project/inspection.py": ("row_faults", "_schema_faults"),
        "napari_protoseg/project/leftovers.py": (
            "unfinished_files", "unnamed_files", "cached_files",
            "NamedFiles.__init__", "NamedFiles.others", "NamedFiles._look_farther",
            "NamedFiles._enter", "_marks",
        ),
        "napari_protoseg/jobs/check.py": (
            "check_project", "_rows", "_files", "_folder_findings", "_image_findings", "_masks",
            "_banks", "_rounds",
        ),
        "napari_protoseg/project/paths.py": (
            "found_path", "refuse_links", "refuse_foreign_files",
        ),
        "napari_protoseg/project/times.py": ("found_time",),
        "napari_protoseg/project/image_rows.py": ("select_images", "select_present"),
        "napari_protoseg/project/found_masks.py": (
            "find_mask", "find_stored", "FoundMask.loaded", "FoundMask.stored",
            "FoundMask.pixels", "MaskState.source",
        ),
        "napari_protoseg/project/mask_rows.py": ("select_summaries",),
        "napari_protoseg/project/mask_values.py": (),
        "napari_protoseg/project/bank_rows.py": ("select_bank",),
        "napari_protoseg/project/round_rows.py": ("select_latest_round",),
        "napari_protoseg/project/review_rows.py": (
            "select_muted", "select_recipe", "select_reviews",
        ),
        "napari_protoseg/project/schema_rows.py": (
            "_schema_of", "select_earlier_schemas", "select_heirs",
        ),
        "napari_protoseg/project/class_changes.py": (
            "select_removed", "restore_class", "_with_again", "_bring_labels_back",
        ),
        "napari_protoseg/jobs/made_of.py": ("recorded_making", "relabelled"),
    },
)  # fmt: skip
