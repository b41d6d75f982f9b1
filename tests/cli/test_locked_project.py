"""Commands on a project that another process writes to."""

from __future__ import annotations

from pathlib import Path

from terminal_runs import protoseg, refusal

from napari_protoseg.project.lock import LockOwner


def test_what_writes_is_refused_and_what_reads_goes_on(tmp_path: Path, trained: Path):
    project = trained / "project"
    protoseg("export", project, "--format", "png", "--out", tmp_path / "first")
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    (project / "project.lock").write_text(owner.model_dump_json())
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"flip": false}')
    other_masks = ("--recipe", recipe, "--format", "png", "--out", tmp_path / "second")
    for command in (
        ("bank", project),
        ("train", project, "--preset", "quick"),
        ("train", project, "--resume"),
        ("export", project, *other_masks),
    ):
        said = refusal(*command, untouched=project)
        assert "ada on elsewhere" in said
        assert f"protoseg check {project} --take-over" in said
    for command in (
        ("info", project),
        ("predict", project, "--out", tmp_path / "predicted"),
        ("export", project, "--format", "png", "--out", tmp_path / "third"),
    ):
        assert "read-only here" in protoseg(*command).err
    assert len(list((tmp_path / "third").glob("*.png"))) == 16
    owner = owner.model_copy(update={"process": 2**30, "host": LockOwner.here().host})
    (project / "project.lock").write_text(owner.model_dump_json())
    assert "left open by ada" in protoseg("train", project, "--preset", "quick").err
