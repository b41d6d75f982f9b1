"""Processes that are watched, and the projects that they work on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent / "jobs")]
pytest.register_assert_rewrite("works")

from disk_calls import why_not_built  # noqa: E402
from tiny_project import (  # noqa: E402, F401
    banked,
    banked_workspace,
    made,
    made_workspace,
    trained,
    trained_workspace,
)
from victims import Victims  # noqa: E402
from works import Beginning, begun, work_of  # noqa: E402


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What sees the calls to the disk, compiled."""
    library = tmp_path_factory.mktemp("library") / "disk_calls.so"
    reason = why_not_built(library)
    if reason is not None:
        pytest.skip(reason)
    return library


@pytest.fixture(scope="session")
def victims(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    """Processes whose calls to the disk are counted, noted and cut short."""
    with Victims(library, tmp_path_factory.mktemp("calls")) as started:
        yield started


@pytest.fixture(scope="session")
def powerless_victims(
    library: Path, powerless: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Victims]:
    """The same, bound by the permissions of files."""
    with Victims(library, tmp_path_factory.mktemp("calls"), before=powerless) as started:
        yield started


@pytest.fixture(scope="session")
def beginning(
    request: pytest.FixtureRequest, victims: Victims, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Beginning]:
    """Return what tells where a work begins, by its name; each is made once."""

    @lru_cache
    def of(name: str) -> Beginning:
        module = work_of(name)
        base = request.getfixturevalue(f"{module.BASE}_workspace")
        place = Path(shutil.copytree(base, tmp_path_factory.mktemp("beginning") / "workspace"))
        if hasattr(module, "prepare"):
            module.prepare(place)
        return begun(victims, name, place)

    return of
