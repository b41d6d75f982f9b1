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
"""Milliseconds between looks whether all is there, and until it is drawn."""


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
    """Write a picture of the window once all that comes by itself is there, then close it."""

    def look() -> None:
        if _is_under_way(bench):
            QTimer.singleShot(_LOOKS_EACH, look)
        else:
            QTimer.singleShot(_SETTLES_IN, leave)

    def leave() -> None:
        viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        viewer.close()

    QTimer.singleShot(_LOOKS_EACH, look)


def _is_under_way(bench: Workbench) -> bool:
    """Tell whether a task, the open image or its maps are still to come."""
    session = bench.session
    is_read = session.current is None or session.is_current_unread or bench.opened.image is not None
    return session.is_busy or not is_read or bench.maps.is_looking


if __name__ == "__main__":
    main()
