"""Held-out images: whole cases, a part of the images at most, and never the last of a class."""

from __future__ import annotations

from pathlib import Path

import pytest
from driven_jobs import finish
from hypothesis import given
from hypothesis import strategies as st
from tiny_project import CASE_PATTERN, CPU, NAMES, NOW, build, write_training_tiles

from napari_protoseg.events import Event, Notice, Request, Severity
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.split import case_of, hold_out_cases
from napari_protoseg.jobs.train import train_project
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.events import StepFinished

CLASSES = 3


@st.composite
def image_sets(draw: st.DrawFn) -> list[ImageRecord]:
    labels = st.tuples(*[st.sampled_from([-1, 0, 1])] * CLASSES)
    cases = st.sampled_from([None, "a", "b", "c", "d", "e"])
    drawn = draw(st.lists(st.tuples(labels, cases), min_size=1, max_size=25))
    return [
        ImageRecord(
            path=Path(f"{number}.png"),
            content_hash=f"{number:064x}",
            width=64,
            height=64,
            label=label,
            case=case,
        )
        for number, (label, case) in enumerate(drawn)
    ]


def held(images: list[ImageRecord]) -> set[int]:
    """Return the classes that the images hold."""
    return {k for image in images for k in range(CLASSES) if image.label[k] == 1}


@given(images=image_sets(), share=st.floats(0, 0.9), seed=st.integers(0, 5))
def test_cases_stay_whole_and_no_class_is_lost(images: list[ImageRecord], share: float, seed: int):
    training, held_out = hold_out_cases(images, share, seed)
    assert sorted([*training, *held_out], key=lambda i: i.path) == sorted(
        images, key=lambda i: i.path
    )
    assert not {case_of(i) for i in training} & {case_of(i) for i in held_out}
    assert held(training) == held(images)
    assert len(held_out) <= share * len(images)
    assert training


@given(images=image_sets(), seed=st.integers(0, 5), data=st.data())
def test_the_choice_does_not_depend_on_the_order_of_images(
    images: list[ImageRecord], seed: int, data: st.DataObject
):
    turned = data.draw(st.permutations(images))
    _, first = hold_out_cases(images, 0.4, seed)
    _, second = hold_out_cases(turned, 0.4, seed)
    assert {i.path for i in first} == {i.path for i in second}


def records(*cases: str | None) -> list[ImageRecord]:
    return [
        ImageRecord(
            path=Path(f"{number}.png"),
            content_hash=f"{number:064x}",
            width=64,
            height=64,
            label=(1,) * CLASSES,
            case=case,
        )
        for number, case in enumerate(cases)
    ]


def test_one_case_of_many_is_held_out_and_another_seed_takes_another():
    images = records(*"aabbccddee")
    chosen = {
        seed: {case_of(i) for i in hold_out_cases(images, 0.25, seed)[1]} for seed in range(10)
    }
    assert all(len(cases) == 1 for cases in chosen.values())
    assert len(set.union(*chosen.values())) > 1


def test_images_without_case_are_cases_of_their_own():
    training, held_out = hold_out_cases(records(*[None] * 10), 0.25, 0)
    assert (len(training), len(held_out)) == (8, 2)


def test_of_two_cases_neither_is_held_out():
    assert hold_out_cases(records("a", "b", "b"), 0.6, 0)[1] == []


def said_before_the_first_step(workspace: Path, **request: object) -> list[Notice]:
    """Make a project of the tiles of a workspace, with a bank, and begin to train it."""
    asked = NewProject.model_validate(
        {
            "folder": workspace / "project",
            "images": workspace / "tiles",
            "case_pattern": CASE_PATTERN,
            **request,
        }
    )
    finish(new_project(asked, now=NOW))
    build(workspace)

    def answer(event: Event) -> Request | None:
        return Request.STOP if isinstance(event, StepFinished) else None

    training = TrainRequest(config=TrainingConfig(epochs=1, batch_size=4, held_out=0.3))
    with Project.open(asked.folder) as project:
        job = train_project(project, training, device=CPU, now=lambda: NOW)
        _, events = finish(job, answer)
    return [event for event in events if isinstance(event, Notice)]


@pytest.mark.parametrize("whole", [True, False])
def test_a_given_split_through_a_case_is_told_before_the_first_step(tmp_path: Path, whole: bool):
    write_training_tiles(tmp_path / "tiles")
    to_validate = sorted((tmp_path / "tiles").iterdir())[: 4 if whole else 3]
    table = tmp_path / "split.csv"
    table.write_text("file,split\n" + "".join(f"{p.name},validation\n" for p in to_validate))
    notices = said_before_the_first_step(tmp_path, classes=NAMES, split=table)
    warnings = [notice.text for notice in notices if notice.severity is Severity.WARNING]
    assert any("case00" in text for text in warnings) is not whole


def test_cases_are_held_out_where_images_to_validate_on_have_neither_label_nor_mask(
    tmp_path: Path,
):
    write_training_tiles(tmp_path / "tiles")
    first, *others = sorted((tmp_path / "tiles").iterdir())
    rows = [f"{first.name},,validation"]
    rows += [f"{path.name},{NAMES[number % 2]},train" for number, path in enumerate(others)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file,classes,split", *rows]) + "\n")
    notices = said_before_the_first_step(tmp_path, labels=table)
    assert any("held-out cases" in notice.text for notice in notices)
