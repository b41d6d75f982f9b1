"""Paths as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_protoseg.workbench.typed_path import typed_path


def test_the_persons_home_may_be_written_as_a_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert typed_path("~/masks") == tmp_path / "masks"
    assert typed_path(f"  {tmp_path} ") == tmp_path


def test_a_home_that_is_not_there_stays_as_it_is_typed():
    assert typed_path("~nobody-of-this-name/masks") == Path("~nobody-of-this-name/masks")


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_is_no_path(text: str):
    assert typed_path(text) is None
