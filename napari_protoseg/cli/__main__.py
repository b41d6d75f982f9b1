"""Runs the terminal application: ``python -m napari_protoseg.cli``."""

from napari_protoseg.cli import main

main()
