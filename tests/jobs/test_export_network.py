"""Exporting the segmentation network of a project: what is said first, and what is written."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from driven_jobs import finish

from napari_protoseg.errors import ProjectError
from napari_protoseg.events import Event, Progress, Request
from napari_protoseg.jobs.export_network import NAME, export_network, plan_network
from napari_protoseg.network import onnx_export
from napari_protoseg.project.folder import Project


def obstacle(workspace: Path, out: Path) -> str:
    """Return why a network cannot be exported; to export it all the same says just that."""
    with Project.open(workspace / "project") as project:
        found = plan_network(project, out).obstacle()
        with pytest.raises(type(found)) as refused:
            finish(export_network(project, out))
    assert str(refused.value) == str(found)
    return str(found)


def test_it_takes_a_second_stage(tmp_path: Path, trained: Path):
    with Project.open(trained / "project") as project:
        plan = plan_network(project, tmp_path)
        assert plan.lines() == ["There is nothing to write."]
        with pytest.raises(ProjectError, match="segmentation without labels"):
            finish(export_network(project, tmp_path, overwrite=True))
    assert not (tmp_path / NAME).exists()


@pytest.mark.slow
def test_a_file_is_replaced_only_when_asked(tmp_path: Path, both_stages: Path):
    there = tmp_path / "there.onnx"
    there.write_text("years of work")
    assert "a file is there already" in obstacle(both_stages, there)
    assert there.read_text() == "years of work"
    with Project.open(both_stages / "project") as project:
        plan = plan_network(project, there)
        assert plan.obstacle(overwrite=True) is None
        assert plan.lines() == [
            "The segmentation network of round 2 to write, as one file.",
            f"{there} is replaced.",
        ]
        exported, events = finish(export_network(project, there, overwrite=True))
    assert exported is not None
    assert (exported.path, exported.folder, exported.round.id) == (there, tmp_path, 2)
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [
        (0, 2),
        (1, 2),
        (2, 2),
    ]
    assert onnxruntime.InferenceSession(there).get_inputs()[0].name == onnx_export.IMAGES


def test_what_no_network_may_replace_is_named(tmp_path: Path, both_stages: Path):
    assert "within the project" in obstacle(both_stages, both_stages / "project")
    assert "within the project" in obstacle(both_stages, both_stages / "project" / "a.onnx")
    (tmp_path / "folder.onnx").mkdir()
    assert "a folder stands where the file" in obstacle(both_stages, tmp_path / "folder.onnx")
    (tmp_path / "file").touch()
    assert "no folder can be made here" in obstacle(both_stages, tmp_path / "file")


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path, both_stages: Path):
    work, link = tmp_path / "work", tmp_path / "link.onnx"
    work.write_text("years of work")
    link.symlink_to(work)
    assert "a file is there already" in obstacle(both_stages, link)
    work.unlink()
    assert "a file is there already" in obstacle(both_stages, link)


def test_without_the_packages_it_is_said_before(
    tmp_path: Path, both_stages: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    assert "not installed: onnx, onnxscript" in obstacle(both_stages, tmp_path)


@pytest.mark.parametrize("done", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stop_before_it_is_written_leaves_nothing(tmp_path: Path, both_stages: Path, done: int):
    def stop(event: Event) -> Request | None:
        return Request.STOP if isinstance(event, Progress) and event.done == done else None

    out = tmp_path / "out"
    with Project.open(both_stages / "project") as project:
        assert finish(export_network(project, out), stop)[0] is None
    assert not out.exists()
