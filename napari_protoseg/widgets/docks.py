"""The docks in napari's menu: the workbench with its pages, and each page alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import napari
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_protoseg.plugin import benches
from napari_protoseg.plugin.canvas import Canvas
from napari_protoseg.widgets.bank_page import BankPage
from napari_protoseg.widgets.closing import WindowClosing
from napari_protoseg.widgets.export_page import ExportPage
from napari_protoseg.widgets.labels_page import LabelsPage
from napari_protoseg.widgets.page import Page
from napari_protoseg.widgets.project_header import ProjectHeader
from napari_protoseg.widgets.review_page import ReviewPage
from napari_protoseg.widgets.task_bar import TaskBar
from napari_protoseg.widgets.training_page import TrainingPage
from napari_protoseg.workbench.workbench import Workbench


@dataclass(frozen=True)
class Entry:
    """A page, and how it is made."""

    title: str
    make: Callable[[Workbench, Canvas], Page]


LABELS = Entry("Labels", lambda bench, _: LabelsPage(bench.labels))
BANK = Entry("Prototype bank", lambda bench, _: BankPage(bench.bank))
TRAINING = Entry("Training", lambda bench, _: TrainingPage(bench.training))
REVIEW = Entry("Review", lambda bench, canvas: ReviewPage(bench.review, canvas))
EXPORT = Entry("Export", lambda bench, _: ExportPage(bench.export))


_ROOM_FOR_TABS = 400


class Dock(QWidget):
    """Some pages of the workbench, between the open project and the long task.

    Parameters
    ----------
    napari_viewer
        Whose window it is docked in; napari gives it to widgets by this name.
    """

    entries: ClassVar[tuple[Entry, ...]] = ()

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._closing: WindowClosing | None = None
        self._docked = self._left = False
        bench, canvas = benches.join(napari_viewer)
        session = bench.session
        self.workbench: Workbench | None = bench
        self.pages = {entry.title: entry.make(bench, canvas) for entry in self.entries}
        self._header = ProjectHeader(session)
        self._task_bar = TaskBar(session)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._header)
        if len(self.entries) == 1:
            layout.addWidget(self.pages[self.entries[0].title], 1)
        else:
            self.tabs = QTabWidget()
            self.tabs.setObjectName("pages")
            self.tabs.setMinimumWidth(_ROOM_FOR_TABS)
            for title, page in self.pages.items():
                self.tabs.addTab(page, title)
            layout.addWidget(self.tabs, 1)
        layout.addWidget(self._task_bar)
        for page in self.pages.values():
            page.refresh()

    def event(self, event: QEvent) -> bool:
        """Leave the workbench when the dock is closed: napari then takes this widget out of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self._leave()
                benches.leave(self._viewer)
                self.deleteLater()
            self._docked = self.parent() is not None
        if event.type() == QEvent.Type.Show and self._closing is None and self._docked:
            self._closing = WindowClosing.of(_topmost(self), self._viewer)
            self._closing.closes.connect(self._leave)
        return bool(super().event(event))

    def _leave(self) -> None:
        """Let go of all that outlives this dock; a second time is nothing."""
        if self._left:
            return
        self._left = True
        if self._closing is not None:
            self._closing.closes.disconnect(self._leave)
        for page in self.pages.values():
            page.close_page()
        self._header.close_header()
        self._task_bar.close_bar()
        self.workbench = None


def _topmost(widget: QWidget) -> QWidget:
    """Return the window of a widget; not the dock, where that floats."""
    while widget.parentWidget() is not None:
        widget = widget.parentWidget()
    return widget


class WorkbenchDock(Dock):
    """All pages, in the order of the work."""

    entries = (LABELS, BANK, TRAINING, REVIEW, EXPORT)


class LabelsDock(Dock):
    """The page of labels alone."""

    entries = (LABELS,)


class BankDock(Dock):
    """The page of the prototype bank alone."""

    entries = (BANK,)


class TrainingDock(Dock):
    """The page of training alone."""

    entries = (TRAINING,)


class ReviewDock(Dock):
    """The page of review alone."""

    entries = (REVIEW,)


class ExportDock(Dock):
    """The page of exports alone."""

    entries = (EXPORT,)
