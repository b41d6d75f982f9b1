"""The terminal application ``protoseg``."""

from __future__ import annotations


def main() -> None:
    """Run ``protoseg`` with the arguments of the process."""
    # Imported here: the package itself is imported by napari, which has no use for it.
    from napari_protoseg.cli.commands import application

    application()
