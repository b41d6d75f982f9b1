"""Start napari with the workbench: ``python -m napari_protoseg.plugin [PROJECT]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import napari
from qtpy.QtCore import QTimer

from napari_protoseg.plugin.commands import open_sample, open_workbench, show_page
from napari_protoseg.workbench.workbench import Workbench

_LOOKS_EACH = 200
_SETTLES_IN = 1500
"""Milliseconds between looks for the maps of the open image, and until all is drawn."""


def main() -> None:
    """Open the project that was named, or the sample, and stay until the window is closed."""
    parser = argparse.ArgumentParser(prog="python -m napari_protoseg.plugin")
    parser.add_argument("project", nargs="?", type=Path, help="Project folder.")
    parser.add_argument(
        "--screenshot", type=Path, help="Write a picture of the window with an image, and leave."
    )
    arguments = parser.parse_args()
    viewer = napari.Viewer(title="ProtoSeg")
    bench = open_workbench(viewer)
    if arguments.project is None:
        open_sample(viewer)
    else:
        bench.session.attempt(lambda: bench.session.open(arguments.project))
        show_page(viewer, "Review")
        bench.session.attempt(lambda: bench.review.step(1))
    if arguments.screenshot is not None:
        viewer.window.resize(1500, 1000)
        _leave_with_screenshot(viewer, bench, arguments.screenshot)
    napari.run()


def _leave_with_screenshot(viewer: napari.Viewer, bench: Workbench, path: Path) -> None:
    """Write a picture of the window once the open image has its maps, then close it."""

    def look() -> None:
        if bench.maps.sight is None and bench.session.project is not None:
            QTimer.singleShot(_LOOKS_EACH, look)
        else:
            QTimer.singleShot(_SETTLES_IN, leave)

    def leave() -> None:
        viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        viewer.close()

    QTimer.singleShot(_LOOKS_EACH, look)


if __name__ == "__main__":
    main()
