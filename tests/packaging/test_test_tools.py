from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest


def test_the_home_of_a_test_is_not_the_home_of_a_person() -> None:
    assert "protoseg-tests-" in str(Path.home())


def test_a_child_without_privileges_cannot_write_where_the_mode_forbids_it(
    as_unprivileged, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x')"
    child = as_unprivileged(code, tmp_path / "new.txt")
    tmp_path.chmod(0o700)
    assert child.returncode == 1
    assert "PermissionError" in child.stderr
    assert as_unprivileged(code, tmp_path / "new.txt").returncode == 0


def test_a_child_without_privileges_can_import_the_package(as_unprivileged) -> None:
    child = as_unprivileged("import napari_protoseg.schema; print('imported')")
    assert child.stdout == "imported\n", child.stderr


def test_a_tiny_disk_is_soon_full(tiny_tmpfs: Path) -> None:
    with pytest.raises(OSError) as raised:
        (tiny_tmpfs / "large").write_bytes(os.urandom(2**21))
    assert raised.value.errno == errno.ENOSPC
