"""Lets the tests of the workbench use the tiny projects that those of the jobs use, and a desk."""

import sys
from pathlib import Path

from desk import desk  # noqa: F401 (a fixture)

sys.path.append(str(Path(__file__).parent.parent / "jobs"))

from tiny_project import (  # noqa: F401 (fixtures)
    banked,
    banked_workspace,
    both_stages,
    both_stages_workspace,
    made,
    made_workspace,
    trained,
    trained_workspace,
)
