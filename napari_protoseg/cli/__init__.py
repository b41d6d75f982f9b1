"""The terminal application ``protoseg``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``protoseg`` with the arguments of the process."""
    try:
        # Imported here: the package itself is imported by napari, which has no use for it.
        from napari_protoseg.cli.commands import application
    except KeyboardInterrupt:  # the imports take seconds
        sys.exit(130)
    application()
