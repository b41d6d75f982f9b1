"""``python -m napari_protoseg.plugin``: what writes a picture of the workbench, and leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("napari")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("vanished", [False, True])
def test_a_picture_is_written_where_there_is_no_model_or_no_image(made: Path, vanished: bool):
    if vanished:
        (made / "tiles").rename(made / "moved")
    picture = made / "workbench.png"
    command = [sys.executable, "-m", "napari_protoseg.plugin", str(made / "project")]
    subprocess.run([*command, "--screenshot", str(picture)], check=True, timeout=240)
    assert np.asarray(Image.open(picture)).std() > 10
