"""The bank does without torch."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_bank_does_not_import_torch() -> None:
    code = (
        "import sys, napari_protoseg.bank.codec, napari_protoseg.encoders.registry; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
