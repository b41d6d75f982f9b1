"""Start napari with the workbench: ``python -m napari_protoseg.plugin [PROJECT]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import napari

from napari_protoseg.plugin.commands import open_sample, open_workbench


def main() -> None:
    """Open the project that was named, or the sample, and stay until the window is closed."""
    parser = argparse.ArgumentParser(prog="python -m napari_protoseg.plugin")
    parser.add_argument("project", nargs="?", type=Path, help="Project folder.")
    project = parser.parse_args().project
    viewer = napari.Viewer(title="ProtoSeg")
    session = open_workbench(viewer).session
    if project is None:
        open_sample(viewer)
    else:
        session.attempt(lambda: session.open(project))
    napari.run()


if __name__ == "__main__":
    main()
