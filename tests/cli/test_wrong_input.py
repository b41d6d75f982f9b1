"""Wrong input: a sentence that names the thing and the way out, and a project as it was."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from terminal_runs import INPUT, STORAGE, USAGE, protoseg, refusal, the_error
from tiny_project import CLASSES, NAMES, build, tree, write_tile

from napari_protoseg.project.folder import Project
from napari_protoseg.schema import ClassSchema

SMALL = "test_efficientnet"
RunCode = Callable[..., "CompletedProcess[str]"]
RUN_EACH = """
import json, sys
from typer.testing import CliRunner
from napari_protoseg.cli.commands import application
for command in json.loads(sys.argv[1]):
    ran = CliRunner().invoke(application, command)
    print(json.dumps([ran.exit_code, ran.stderr]))
"""


def small_weights(path: Path, seed: int = 0) -> Path:
    """Write the weights of a small network."""
    torch.manual_seed(seed)
    network = timm.create_model(SMALL, pretrained=False)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    return path


def spoil(path: Path, kind: str) -> None:
    """Make what is at `path`, an image, one that cannot be used."""
    content = path.read_bytes()
    pixels = np.asarray(Image.open(path).convert("L"))
    match kind:
        case "text":
            path.write_text("Not an image at all, but its name ends in .png.\n")
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "16-bit":
            Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
        case "grey":
            Image.fromarray(pixels).save(path)
        case "empty":
            path.write_bytes(b"")


SPOILT = {
    "text": "not a PNG, JPEG, TIFF, BMP or WebP image",
    "truncated": "damaged or truncated",
    "16-bit": "more than 8 bits a channel",
    "grey": "a grey image, and H&E needs colour",
    "empty": "the file is empty",
}
WAYS_OUT = {
    "text": "Export the image in one of these formats.",
    "truncated": "export or copy it again.",
    "16-bit": "Convert it to 8-bit RGB",
    "grey": "Give the RGB original",
    "empty": "Copy or export it again.",
}


@pytest.mark.parametrize("kind", SPOILT)
def test_an_image_that_cannot_be_used_is_left_out_and_named(tmp_path: Path, made: Path, kind: str):
    first = min((made / "tiles").iterdir())
    spoil(first, kind)
    project = tmp_path / "p"
    said = protoseg("new", project, "--images", made / "tiles", "--classes", CLASSES).out
    left_out = next(line for line in said.splitlines() if line.startswith("Images left out (1)"))
    assert first.name in left_out
    assert SPOILT[kind] in left_out
    assert WAYS_OUT[kind] in left_out
    with Project.open(project) as opened:
        assert len(opened.images()) == 15


@pytest.mark.parametrize("kind", SPOILT)
def test_a_folder_of_such_images_alone_is_refused(tmp_path: Path, kind: str):
    images = tmp_path / "images"
    spoil(write_tile(images, 0, 0, 0), kind)
    project = tmp_path / "p"
    said = refusal("new", project, "--images", images, "--classes", CLASSES, untouched=project)
    assert SPOILT[kind] in said
    assert "8-bit RGB" in said


@pytest.mark.parametrize("kind", SPOILT)
def test_an_image_that_spoilt_later_stops_the_work_by_name(made: Path, kind: str):
    first = min((made / "tiles").iterdir())
    spoil(first, kind)
    said = refusal("bank", made / "project", "--clusters", "1", untouched=made / "project")
    assert first.name in said
    assert SPOILT[kind] in said


def test_a_folder_without_images_is_refused(tmp_path: Path):
    images = tmp_path / "images"
    images.mkdir()
    project = tmp_path / "p"
    args = ("new", project, "--classes", CLASSES, "--images")
    said = refusal(*args, images, untouched=project)
    assert str(images) in said
    assert "no image in this folder" in said
    assert "no such folder" in refusal(*args, tmp_path / "absent", untouched=project)


def test_labels_of_unequal_length_are_refused_by_name(tmp_path: Path, made: Path):
    first = min((made / "tiles").iterdir())
    odd = first.rename(first.with_name("odd-[1 0 1].png"))
    project = tmp_path / "p"
    said = refusal(
        "new", project, "--images", made / "tiles", "--classes", CLASSES, untouched=project
    )
    assert odd.name in said
    assert "number of digits" in said


def test_other_classes_than_labels_are_refused(tmp_path: Path, made: Path):
    project = tmp_path / "p"
    args = ("new", project, "--images", made / "tiles")
    assert "4 digits" in refusal(*args, "--classes", "a,b,c", untouched=project)
    assert "Name the 4 classes" in refusal(*args, untouched=project)


def test_a_class_that_no_image_holds_is_refused_where_it_matters(tmp_path: Path):
    images = tmp_path / "images"
    for number in range(8):
        write_tile(images, number % 4, number, number % 3)
    project = tmp_path / "p"
    protoseg("new", project, "--images", images, "--classes", CLASSES)
    said = refusal("bank", project, "--clusters", "1", untouched=project / "banks")
    assert NAMES[3] in said


def test_a_class_that_the_table_of_labels_lacks_is_refused(tmp_path: Path, made: Path):
    table = tmp_path / "labels.csv"
    first = min((made / "tiles").iterdir())
    table.write_text(f"file,{','.join(NAMES[:3])}\n{first.name},1,0,0\n")
    project = tmp_path / "p"
    args = ("--images", made / "tiles", "--labels", table, "--classes", CLASSES)
    said = refusal("new", project, *args, untouched=project)
    assert NAMES[3] in said


@contextmanager
def forbidden(*places: Path) -> Iterator[None]:
    """Take the right to write from folders and what is in them."""
    below = [p for place in places for p in (place, *place.rglob("*"))]
    modes = {path: path.stat().st_mode for path in below}
    try:
        for path in below:
            path.chmod(0o500 if path.is_dir() else 0o400)
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_place_without_permission_is_named_and_stays_as_it_is(
    tmp_path: Path, trained: Path, as_unprivileged: RunCode
):
    locked = tmp_path / "locked"
    locked.mkdir()
    project = trained / "project"
    new = ("new", locked / "p", "--images", trained / "tiles", "--classes", CLASSES)
    places = {locked: new, project: ("bank", project)}
    before = [tree(place) for place in places]
    with forbidden(*places):
        ran = as_unprivileged(RUN_EACH, json.dumps(list(places.values()), default=str))
    assert [tree(place) for place in places] == before
    for place, line in zip(places, ran.stdout.splitlines(), strict=True):
        code, err = json.loads(line)
        assert code == STORAGE, err
        said = the_error(err)
        assert str(place) in said
        assert "no permission" in said


def fill(disk: Path, room: int = 0) -> None:
    """Leave no more than `room` bytes on a disk."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    if room:
        os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - room)


def test_a_full_disk_leaves_no_project(tiny_tmpfs: Path, made: Path):
    fill(tiny_tmpfs)
    project = tiny_tmpfs / "p"
    args = ("--images", made / "tiles", "--classes", CLASSES)
    said = refusal("new", project, *args, untouched=project, code=STORAGE)
    assert "space" in said


def on_the_disk(disk: Path, workspace: Path) -> Path:
    """Bring tiles and project to a disk that they then fill, and return the project."""
    shutil.copytree(workspace / "tiles", disk / "tiles")
    no_cache = shutil.ignore_patterns("cache")
    return Path(shutil.copytree(workspace / "project", disk / "project", ignore=no_cache))


@pytest.mark.parametrize("tiny_tmpfs", ["64m"], indirect=True)  # checkpoints are large
@pytest.mark.parametrize("command", ["bank", "train", "export", "predict"])
def test_a_full_disk_leaves_a_project_with_what_it_had(
    tiny_tmpfs: Path, tmp_path: Path, trained: Path, command: str
):
    project = on_the_disk(tiny_tmpfs, trained)
    more = {
        "bank": ("--clusters", "1"),
        "train": ("--preset", "quick"),
        "export": ("--format", "png", "--out", tmp_path / "out"),
        "predict": ("--out", tiny_tmpfs / "out"),
    }
    fill(tiny_tmpfs)
    said = refusal(command, project, *more[command], untouched=tiny_tmpfs, code=STORAGE)
    assert "space" in said
    (tiny_tmpfs / "ballast").unlink()
    protoseg("info", project)


@pytest.mark.parametrize("tiny_tmpfs", ["64m"], indirect=True)
def test_a_disk_that_fills_up_on_the_way_costs_only_what_can_be_computed_again(
    tiny_tmpfs: Path, tmp_path: Path, trained: Path
):
    project = on_the_disk(tiny_tmpfs, trained)
    fill(tiny_tmpfs, room=100_000)
    before = tree(tiny_tmpfs)
    said = the_error(protoseg("train", project, "--preset", "quick", code=STORAGE).err)
    assert "space" in said
    shutil.rmtree(project / "cache")
    assert tree(tiny_tmpfs) == before


def test_a_checkpoint_of_another_schema_is_refused(tmp_path: Path, trained: Path):
    other = tmp_path / "other"
    shutil.copytree(trained / "tiles", other / "tiles")
    names = ",".join(f"{name} of another" for name in NAMES)
    protoseg("new", other / "project", "--images", other / "tiles", "--classes", names)
    build(other)
    protoseg("train", other / "project", "--preset", "quick")
    best = Path("project/runs/0001/best.safetensors")
    shutil.copy(trained / best, other / best)
    for command in (("predict",), ("export", "--format", "png")):
        args = (command[0], other / "project", *command[1:], "--out", tmp_path / "out")
        said = refusal(*args, untouched=other / "project")
        assert str(other / best) in said
        assert "protoseg train" in said
        assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, trained: Path):
    best = trained / "project/runs/0001/best.safetensors"
    best.write_bytes(best.read_bytes()[:5000])
    said = refusal("predict", trained / "project", "--out", tmp_path / "out", untouched=trained)
    assert str(best) in said


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.place}'",)


@pytest.mark.parametrize("option", ["--backbone-weights", "--encoder-weights"])
def test_a_pickle_given_as_weights_is_refused_and_never_run(
    tmp_path: Path, banked: Path, option: str
):
    trap = tmp_path / "weights.pth"
    trap.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch has more to say of it than helps a person
        said = refusal("train", banked / "project", option, trap, untouched=banked)
    assert str(trap) in said
    assert "pickle" in said
    assert ".safetensors" in said
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_given_as_weights_of_the_bank_is_refused(tmp_path: Path, made: Path):
    trap = tmp_path / "weights.pth"
    trap.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    args = ("--encoder", SMALL, "--encoder-weights", trap)
    assert "pickle" in refusal("bank", made / "project", *args, untouched=made)
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path, banked: Path):
    weights = small_weights(tmp_path / "small.safetensors")
    project = banked / "project"
    for option in ("--backbone-weights", "--encoder-weights"):
        said = refusal("train", project, option, weights, untouched=banked)
        assert str(weights) in said
        assert "not the weights of this model" in said


def test_a_network_that_nobody_knows_is_refused(made: Path, banked: Path):
    assert "nonet" in refusal("bank", made / "project", "--encoder", "nonet", untouched=made)
    assert "nonet" in refusal("train", banked / "project", "--backbone", "nonet", untouched=banked)


def test_training_without_a_bank_names_the_command_that_builds_one(made: Path):
    said = refusal("train", made / "project", untouched=made)
    assert f"protoseg bank {made / 'project'}" in said


def test_a_bank_of_other_weights_than_the_encoder_s_is_refused(tmp_path: Path, made: Path):
    first = small_weights(tmp_path / "first.safetensors")
    other = small_weights(tmp_path / "other.safetensors", seed=1)
    project = made / "project"
    protoseg("bank", project, "--clusters", "1", "--encoder", SMALL, "--encoder-weights", first)
    for preset in ("quick", "standard"):
        args = ("--preset", preset, "--encoder-weights", other)
        said = refusal("train", project, *args, untouched=made)
        assert SMALL in said
        assert "Build the bank anew" in said
    protoseg("train", project, "--preset", "quick")


def test_a_bank_of_unlike_numbers_of_prototypes_has_to_fit_the_classes(made: Path):
    project = made / "project"
    assert "4" in refusal("bank", project, "--clusters", "1,2", untouched=made)
    for none in ("0", "3,0,1,1", "-1", "x", ""):
        before = tree(made)
        assert "from 1 on" in protoseg("bank", project, f"--clusters={none}", code=USAGE).err
        assert tree(made) == before
    assert protoseg("bank", project, "--clusters", "1,2,1,1").out.count("cohesion") == 5


def test_the_released_configuration_names_all_that_it_needs(banked: Path):
    said = refusal("train", banked / "project", "--preset", "paper", untouched=banked)
    for needed in (
        "swin_tiny_patch4_window7_224",
        "--encoder-weights",
        "mit_b1",
        "--backbone-weights",
        "no commercial use",
    ):
        assert needed in said


def test_a_device_that_is_not_there_is_refused(banked: Path):
    said = refusal("train", banked / "project", "--device", "tpu", untouched=banked)
    assert "tpu" in said


def test_an_image_that_vanished_is_named(tmp_path: Path, trained: Path):
    first = min((trained / "tiles").iterdir())
    first.unlink()
    project = trained / "project"
    cache = project / "cache"
    for command in (
        ("bank", project),
        ("predict", project, "--out", tmp_path / "out"),
        ("export", project, "--format", "png", "--out", tmp_path / "out"),
    ):
        assert first.name in refusal(*command, untouched=project)
        assert not (tmp_path / "out").exists()
    shutil.rmtree(cache)
    ran = protoseg("train", project, "--preset", "quick", code=INPUT)
    assert first.name in the_error(ran.err)


@pytest.mark.parametrize("size", [(80, 60), (64, 64)])
@pytest.mark.parametrize("command", ["bank", "train", "predict", "export"])
def test_an_image_that_has_changed_is_named(
    tmp_path: Path, trained: Path, command: str, size: tuple[int, int]
):
    first = min((trained / "tiles").iterdir())
    Image.open(first).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize(size).save(first)
    more = {
        "bank": (),
        "train": ("--epochs", "1", "--batch-size", "16"),
        "predict": ("--out", tmp_path / "out"),
        "export": ("--format", "png", "--out", tmp_path / "out"),
    }
    ran = protoseg(command, trained / "project", *more[command], code=INPUT)
    said = the_error(ran.err)
    assert first.name in said
    assert "has changed since it was taken in" in said
    assert not (tmp_path / "out").exists()


def test_resuming_where_nothing_was_stopped_is_refused(banked: Path, trained: Path):
    for workspace in (banked, trained):
        said = refusal("train", workspace / "project", "--resume", untouched=workspace)
        assert "no unfinished training" in said


@pytest.mark.parametrize(
    "option",
    [("--epochs", "3"), ("--preset", "quick"), ("--seed", "1"), ("--backbone", "resnet50")],
)
def test_resuming_takes_no_other_options(banked: Path, option: tuple[str, str]):
    ran = protoseg("train", banked / "project", "--resume", *option, code=USAGE)
    assert "--resume" in ran.err


def test_a_project_whose_classes_grew_goes_on(tmp_path: Path, trained: Path):
    project = trained / "project"
    with Project.open(project) as opened:
        old = opened.schema
        new = ClassSchema.from_names([*old.names, "mucus"]).classes[-1]
        created = opened.images()[0] and opened.latest_bank()
        assert created is not None
        grown = ClassSchema(classes=(new, *old.classes))
        opened.set_schema(grown, created=created.created)
    protoseg("predict", project, "--out", tmp_path / "masks")
    protoseg("export", project, "--format", "png", "--out", tmp_path / "export")
    for path in (tmp_path / "masks").glob("*.png"):
        assert np.array_equal(
            np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "export" / path.name))
        )
