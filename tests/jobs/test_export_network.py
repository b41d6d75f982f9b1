"""Exporting the segmentation network of a project."""

from __future__ import annotations

from pathlib import Path

import pytest
from driven_jobs import finish

from napari_protoseg.errors import ExportError, ProjectError
from napari_protoseg.jobs.export_network import export_network
from napari_protoseg.project.folder import Project


def test_it_takes_a_second_stage_and_replaces_no_file_unasked(tmp_path: Path, trained: Path):
    there = tmp_path / "there.onnx"
    there.write_text("years of work")
    with Project.open(trained / "project") as project:
        with pytest.raises(ExportError, match="already"):
            finish(export_network(project, there))
        with pytest.raises(ProjectError, match="segmentation without labels"):
            finish(export_network(project, there, overwrite=True))
    assert there.read_text() == "years of work"
