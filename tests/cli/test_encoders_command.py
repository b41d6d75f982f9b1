"""A pathology encoder from a weights file, from the list of encoders to masks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from published_weights import make_small, source_model, write_published
from terminal_runs import protoseg, refusal

from napari_protoseg.encoders.pathology import PATHOLOGY_ENCODERS
from napari_protoseg.jobs.bank import latest_bank
from napari_protoseg.project.folder import Project

ENCODERS_PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"


def test_the_list_says_of_each_encoder_what_it_needs() -> None:
    listed = {line.split()[0]: line for line in protoseg("encoders").out.splitlines() if line}
    record = {
        known["name"]: known for known in json.loads(protoseg("encoders", "--json").out)["encoders"]
    }
    for name, known in PATHOLOGY_ENCODERS.items():
        published = known.publication
        assert published is not None
        for shown in (published.patch, published.width, known.licence.name, published.source):
            assert str(shown) in listed[name]
        assert record[name]["mean"] == list(known.mean or ())
        assert record[name]["commercial use"] is known.licence.commercial
    assert "come with the installation" in listed["tf_efficientnet_lite0"]
    assert "ctranspath" not in listed


def test_the_documented_table_is_that_of_the_program() -> None:
    if not ENCODERS_PAGE.exists():
        pytest.skip("the documentation is not beside these tests")
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in ENCODERS_PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    documented = {row[0].strip("`"): row[1:] for row in rows}
    assert documented.keys() == PATHOLOGY_ENCODERS.keys()
    for name, known in PATHOLOGY_ENCODERS.items():
        published = known.publication
        assert published is not None and known.mean is not None and known.std is not None
        assert documented[name] == [
            published.title,
            str(published.patch),
            str(published.width),
            str(published.prefix_tokens),
            f"{published.parameters} M",
            " ".join(f"{value:g}" for value in known.mean),
            " ".join(f"{value:g}" for value in known.std),
            f"{published.micrometres_per_pixel:g}",
            known.licence.name,
            published.source,
        ]


@pytest.mark.parametrize(
    ("name", "file"), [("virchow2", "pytorch_model.bin"), ("hibou-b", "model.safetensors")]
)
def test_a_weights_file_leads_to_masks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: Path, name: str, file: str
) -> None:
    make_small(monkeypatch, name)
    weights = write_published(tmp_path / file, name, source_model(name))
    project = made / "project"
    said = protoseg(
        "bank", project, "--clusters", "1", "--encoder", name, "--encoder-weights", weights
    )
    assert PATHOLOGY_ENCODERS[name].licence.notice in said.err
    with Project.open(project) as opened:
        encoder = latest_bank(opened)[0].bank.encoder
    assert encoder.name == name
    assert encoder.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    protoseg("train", project, "--preset", "quick")
    weights.unlink()  # a trained model carries its encoder
    protoseg("export", project, "--format", "png", "--out", tmp_path / "masks")
    masks = {path.name for path in (tmp_path / "masks").glob("*.png")}
    assert masks == {path.name for path in (made / "tiles").iterdir()}


def test_without_its_file_the_refusal_says_where_it_is_had(made: Path) -> None:
    project = made / "project"
    said = refusal("bank", project, "--encoder", "uni", untouched=project)
    assert "huggingface.co/MahmoodLab/UNI" in said
    assert "research only" in said


def test_pixels_of_another_size_than_the_encoder_knows_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: Path
) -> None:
    make_small(monkeypatch, "phikon")
    weights = write_published(tmp_path / "model.safetensors", "phikon", source_model("phikon"))
    said = {}
    for size in ("0.45", "2"):
        project = tmp_path / size
        protoseg("new", project, "--images", made / "tiles", "--classes", "a,b,c,d", "--mpp", size)
        said[size] = protoseg(
            "bank", project, "--clusters", "1", "--encoder", "phikon", "--encoder-weights", weights
        ).err
    assert "Phikon is meant for 0.5 micrometres per pixel" in said["2"]
    assert "these images have 2:" in said["2"]
    assert "is meant for" not in said["0.45"]
