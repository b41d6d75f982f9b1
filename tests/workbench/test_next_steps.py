"""What the pages tell someone who is here for the first time: how things stand, what comes next."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from inline_runner import InlineRunner
from PIL import Image
from tiny_project import finish, tile

from napari_protoseg.events import Notice
from napari_protoseg.jobs.add import AddImages, add_images, read_addition
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ReviewStatus
from napari_protoseg.training.config import Preset
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.workbench import Workbench


@pytest.fixture
def heard() -> list[Notice]:
    """What the workbench has said."""
    return []


@pytest.fixture
def bench(heard: list[Notice]) -> Iterator[Workbench]:
    bench = Workbench(Session(InlineRunner(), lambda: Settings(device="cpu")))
    hear = heard.append
    bench.session.said.connect(hear)
    yield bench
    bench.close()


def add_validation(workspace: Path) -> None:
    with Project.open(workspace / "project") as project:
        validation = workspace / "validation"
        request = AddImages(images=validation / "images", masks=validation / "masks")
        reading, _ = finish(read_addition(project, request))
        finish(add_images(project, request, reading))


def test_labels_send_on_to_the_bank_then_to_training_then_to_review(bench: Workbench, made: Path):
    bench.session.open(made / "project")
    assert bench.labels.next_step() == "Next: build a prototype bank."
    bench.bank.request = BankRequest.model_validate({"config": {"clusters": 1}})
    bench.bank.build()
    assert bench.labels.next_step() == "Next: train."
    bench.training.choose(Preset.QUICK)
    bench.training.train()
    assert bench.labels.next_step() == "Next: look at the masks on Review."


def test_training_says_what_a_bank_lacks_and_follows_the_labels(bench: Workbench, made: Path):
    bench.session.open(made / "project")
    assert bench.training.needs() == "Build a prototype bank first."
    holding = [image for image in bench.labels.images.all if image.label[0] == 1]
    for image in holding:
        bench.labels.forget(image.known_id, 1)
    assert bench.training.needs() == (
        "Build a prototype bank first. For it, no training image is known to hold tumor yet."
    )
    bench.labels.undo()
    assert bench.training.needs() == "Build a prototype bank first."


def test_a_quick_training_is_measured_on_the_masks_and_names_the_next_page(
    bench: Workbench, banked: Path, heard: list[Notice]
):
    add_validation(banked)
    bench.session.open(banked / "project")
    assert bench.training.cost() == "How long it takes is not measured yet."
    bench.training.choose(Preset.QUICK)
    bench.training.train()
    assert bench.training.outcome == heard[-1].text
    assert bench.training.outcome.startswith("Round 1 is trained: mIoU 0.")
    assert bench.training.outcome.endswith(
        " on 4 images with masks. Next: look at its masks on Review."
    )
    assert bench.training.cost().startswith("The last one like it took about ")
    bench.session.images_changed.emit()
    assert bench.training.cost() == "How long it takes is not measured yet."


def test_without_masks_there_is_no_figure(bench: Workbench, banked: Path):
    bench.session.open(banked / "project")
    bench.training.choose(Preset.QUICK)
    bench.training.train()
    assert bench.training.outcome == "Round 1 is trained. Next: look at its masks on Review."


def test_a_true_mask_that_vanished_leaves_the_trained_round(
    bench: Workbench, banked: Path, heard: list[Notice]
):
    add_validation(banked)
    bench.session.open(banked / "project")
    shutil.rmtree(banked / "validation" / "masks")
    bench.training.choose(Preset.QUICK)
    bench.training.train()
    assert bench.training.problem is None
    assert bench.training.outcome == "Round 1 is trained. Next: look at its masks on Review."
    assert any("was not measured" in notice.text for notice in heard)


def test_review_tells_proposed_from_stored_masks(bench: Workbench, trained: Path):
    bench.session.open(trained / "project")
    bench.review.step(1)
    first, second = bench.review.images[0], bench.review.images[1]
    assert (first.state(), second.state()) == ("proposed", "proposed")
    assert bench.review.state_of_current() == (
        "Proposed by round 1; stored once accepted, corrected or saved. Maps of round 1."
    )
    bench.review.mark(ReviewStatus.ACCEPTED)
    assert bench.review.images[0].state() == "accepted, round 1"
    assert bench.review.images[1].state() == "proposed"


def test_without_a_model_nothing_is_called_proposed(bench: Workbench, made: Path):
    bench.session.open(made / "project")
    bench.review.step(1)
    assert bench.review.images[0].state() == "no mask yet"
    assert bench.review.state_of_current() == "No mask yet. No model yet."


def test_a_class_whose_prototypes_are_all_muted_is_named(bench: Workbench, banked: Path):
    bench.session.open(banked / "project")
    bank = bench.bank
    of_class = [card for card in bank.cards if card.tissue_class == bank.cards[0].tissue_class]
    for card in of_class:
        assert bank.standing() == ""
        bank.set_muted(card.index, True)
    name = of_class[0].tissue_class.name
    assert bank.standing() == f"All prototypes of {name} are muted: they find nothing of it."
    bank.set_muted(of_class[0].index, False)
    assert bank.standing() == ""


def test_a_card_shows_its_map_on_the_nearest_image_where_none_is_open(
    bench: Workbench, banked: Path
):
    bench.session.open(banked / "project")
    card = bench.bank.cards[1]
    assert bench.bank.map_needs(card) is None
    bench.bank.show_card(card, shown=True)
    assert bench.session.current == card.crops[0]
    assert bench.bank.mapped == card.index
    assert bench.maps.prototype_map is not None
    bench.bank.show_card(card, shown=False)
    assert bench.maps.prototype_map is None
    assert bench.session.current == card.crops[0]


def test_images_that_a_model_is_only_applied_to_are_left_out_of_banks(
    bench: Workbench, trained: Path, heard: list[Notice]
):
    (trained / "new").mkdir()
    for number in range(2):
        Image.fromarray(tile(20, number, number).image).save(trained / "new" / f"{number}.png")
    bench.session.open(trained / "project")
    project = bench.session.require_project()
    before = {image.content_hash for image in project.images()}
    bench.review.apply(trained / "new")
    assert heard[-1].text == (
        "2 images added, 2 masks made. 2 have no image-level labels: banks and trainings leave "
        "them out until they are labelled."
    )
    new = [image for image in project.images() if image.content_hash not in before]
    for image in new:
        image.path.unlink()  # whoever reads it fails
    request = BankRequest.model_validate({"config": {"clusters": 1}})
    device, now = bench.session.device, bench.session.now()
    built, _ = finish(build_project_bank(project, request, device=device, now=now))
    assert built is not None
    bench.training.choose(Preset.QUICK)
    bench.training.train()
    assert bench.training.problem is None
