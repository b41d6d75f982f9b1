"""Verbs for the command palette: what the pages do, without looking for the button."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QDockWidget, QFileDialog, QTabWidget

from napari_protoseg.plugin import benches
from napari_protoseg.plugin.settings import PLUGIN
from napari_protoseg.workbench.workbench import Workbench

WORKBENCH = "Workbench"
"""Name of the dock with all pages, in the manifest."""

_DOCK = f"{WORKBENCH} ({PLUGIN})"
"""What napari calls it."""


def open_workbench(viewer: napari.Viewer) -> Workbench:
    """Return the workbench of a viewer, in a dock that is seen."""
    docks = _docks(viewer)
    if not docks:
        viewer.window.add_plugin_dock_widget(PLUGIN, WORKBENCH)
    elif not any(dock.isVisible() for dock in docks.values()):
        docks.get(_DOCK, next(iter(docks.values()))).show()
    bench = benches.workbench_of(viewer)
    assert bench is not None
    return bench


def show_page(viewer: napari.Viewer, title: str) -> None:
    """Bring a page to the front: in the dock with all pages, or in one of its own."""
    open_workbench(viewer)
    docks = _docks(viewer)
    dock = docks.get(_DOCK) or docks.get(f"{title} ({PLUGIN})")
    if dock is None:
        viewer.window.add_plugin_dock_widget(PLUGIN, WORKBENCH)
        dock = _docks(viewer)[_DOCK]
    dock.show()
    dock.raise_()
    for tabs in dock.findChildren(QTabWidget, "pages"):
        titles = [tabs.tabText(index) for index in range(tabs.count())]
        tabs.setCurrentIndex(titles.index(title))


def open_project(viewer: napari.Viewer) -> None:
    """Ask for a project folder, and open it."""
    session = open_workbench(viewer).session
    folder = QFileDialog.getExistingDirectory(None, "Open a ProtoSeg project")
    if folder:
        session.attempt(lambda: session.open(Path(folder)))


def open_sample(viewer: napari.Viewer) -> None:
    """Open the project of synthetic tissue."""
    open_workbench(viewer).session.open_sample()


def build_bank(viewer: napari.Viewer) -> None:
    """Build the prototype bank, as the page's options say."""
    _do(viewer, lambda bench: bench.bank.build())


def train(viewer: napari.Viewer) -> None:
    """Train, as the page's options say."""
    _do(viewer, lambda bench: bench.training.train())


def next_image(viewer: napari.Viewer) -> None:
    """Save the open image, and open the next one of the list of review."""
    _do(viewer, lambda bench: bench.review.step(1))


def previous_image(viewer: napari.Viewer) -> None:
    """Save the open image, and open the one before."""
    _do(viewer, lambda bench: bench.review.step(-1))


def make_masks(viewer: napari.Viewer) -> None:
    """Make the masks of all images that were not accepted."""
    _do(viewer, lambda bench: bench.review.make_masks())


def export_masks(viewer: napari.Viewer) -> None:
    """Export the masks, as the page's options say."""
    _do(viewer, lambda bench: bench.export.export())


def stop(viewer: napari.Viewer) -> None:
    """Stop what is under way, keeping what is worth keeping."""
    session = open_workbench(viewer).session
    if session.task is None or session.task.is_over:
        session.say("Nothing is under way that could be stopped.")
    else:
        session.task.stop()


def _docks(viewer: napari.Viewer) -> dict[str, QDockWidget]:
    """Return the docks with pages of the workbench, hidden ones too, by the names they have."""
    found = {}
    for name, widget in viewer.window.dock_widgets.items():
        if name.endswith(f" ({PLUGIN})"):
            dock = widget.parentWidget()
            while not isinstance(dock, QDockWidget):
                dock = dock.parentWidget()
            found[name] = dock
    return found


def _do(viewer: napari.Viewer, verb: Callable[[Workbench], object]) -> None:
    """Do something on the workbench; it says itself why where it cannot."""
    bench = open_workbench(viewer)
    bench.session.attempt(lambda: verb(bench))
