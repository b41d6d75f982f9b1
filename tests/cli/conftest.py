"""The workspaces of `tiny_project`, which the tests of the jobs work on as well."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "jobs"))
pytest.register_assert_rewrite("terminal_runs")

from tiny_project import (  # noqa: E402, F401
    banked,
    banked_workspace,
    made,
    made_workspace,
    trained,
    trained_workspace,
)
