"""Lets the tests of page states make the tiny projects that those of the jobs use."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "jobs"))
