"""What all tests share: a home of their own, data, the powerless child, a full disk, figures."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

# Before any test module is loaded: napari reads its settings where these point when it is first
# imported, and torch counts its threads.
_HOME = Path(tempfile.mkdtemp(prefix="protoseg-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {
    "HOME": str(_HOME),
    "XDG_CACHE_HOME": str(_HOME / "cache"),
    "XDG_CONFIG_HOME": str(_HOME / "config"),
    "XDG_DATA_HOME": str(_HOME / "data"),
    "XDG_STATE_HOME": str(_HOME / "state"),
    "NAPARI_CONFIG": str(_HOME / "napari" / "settings.yaml"),
}
os.environ.setdefault("OMP_NUM_THREADS", "2")

RunCode = Callable[..., "subprocess.CompletedProcess[str]"]
_SAID = pytest.StashKey[list[str]]()


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Let later tests not search for garbage in all that earlier ones have left.

    Windows of napari leave a good deal: the search had come to take a quarter of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Note a figure that stands at the end of the run."""
    said = request.config.stash.setdefault(_SAID, [])
    return lambda name, value: said.append(f"{name}: {value}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(_SAID, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def protoseg_data() -> Path:
    """The folder of real tissue and reference values; skips the test where there is none."""
    place = os.environ.get("PROTOSEG_DATA")
    if not place:
        pytest.skip("the environment variable PROTOSEG_DATA names no data folder")
    folder = Path(place)
    if not folder.is_dir():
        pytest.skip(f"PROTOSEG_DATA names {folder}, which is no folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def powerless() -> list[str]:
    """What a command begins with for the permissions of files to bind it, even if not the tests.

    The child of root keeps its user id, so that it finds this interpreter wherever it lies, but
    gives up every capability: it may do what the mode of a file allows its owner, and no more.
    """
    if os.name == "nt":
        pytest.skip("the modes of files bind nobody on Windows")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("the tests run as root, and there is no setpriv to give up its powers")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture(scope="session")
def as_unprivileged(powerless: list[str]) -> RunCode:
    """Run Python code in a `powerless` child.

    ``as_unprivileged(code, *arguments)`` returns the finished process with its text; the code
    finds the arguments in ``sys.argv[1:]``. Take rights away with ``chmod``.
    """
    command = [*powerless, sys.executable, "-c"]

    def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o500)
        probe = run("import pathlib, sys; pathlib.Path(sys.argv[1], 'new').touch()", folder)
        if "PermissionError" not in probe.stderr:
            pytest.skip(f"no child can be bound by permissions here: {probe.stderr or 'it wrote'}")
    return run


@contextmanager
def mounted(place: Path, *what: str | Path) -> Iterator[None]:
    """Mount something on a folder for the block; the test is skipped where that is not allowed."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount")
    command = ["mount", *map(str, what), str(place)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        # Lazily: a test that failed may hold a file open, and its own error matters more.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def tiny_tmpfs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, or of a parameter, mounted for one test; needs the right to mount."""
    folder = tmp_path / "tiny_disk"
    folder.mkdir()
    with mounted(folder, "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '1m')}", "tmpfs"):
        yield folder


@pytest.fixture
def bind() -> Iterator[Callable[[Path, Path], None]]:
    """Let a folder be seen at another place, too, for one test; needs the right to mount."""
    with ExitStack() as binds:
        yield lambda folder, place: binds.enter_context(mounted(place, "--bind", folder))
