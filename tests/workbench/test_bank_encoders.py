"""The page of the prototype bank offers the pathology encoders, and says what each needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from inline_runner import InlineRunner
from published_weights import make_small, source_model, write_published

from napari_protoseg.encoders.pathology import PATHOLOGY_ENCODERS
from napari_protoseg.jobs.bank import BankRequest
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.workbench import Workbench


@pytest.mark.parametrize("name", PATHOLOGY_ENCODERS)
def test_each_is_offered_with_its_licence_and_where_its_weights_are_had(made: Path, name: str):
    with_licence = PATHOLOGY_ENCODERS[name]
    assert with_licence.publication is not None
    bench = Workbench(Session(InlineRunner(), lambda: Settings(device="cpu")))
    bench.session.open(made / "project")
    assert name in bench.bank.encoders
    bench.bank.request = BankRequest(encoder=name)
    assert bench.bank.licence == with_licence.licence.notice
    needs = bench.bank.needs()
    assert needs is not None
    assert with_licence.publication.source in needs
    bench.close()


def test_with_its_file_one_builds_the_bank(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: Path
):
    make_small(monkeypatch, "conch")
    weights = write_published(tmp_path / "pytorch_model.bin", "conch", source_model("conch"))
    bench = Workbench(Session(InlineRunner(), lambda: Settings(device="cpu")))
    bench.session.open(made / "project")
    bench.bank.request = BankRequest.model_validate(
        {"config": {"clusters": 1}, "encoder": "conch", "encoder_weights": weights}
    )
    assert bench.bank.needs() is None
    bench.bank.build()
    assert bench.bank.bank is not None
    assert bench.bank.bank.bank.encoder.name == "conch"
    bench.close()
