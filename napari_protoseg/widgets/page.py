"""What the widgets of all pages have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psygnal import SignalInstance
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_protoseg.widgets.plain_text import PlainLabel
from napari_protoseg.workbench.page import PageState


class Page(QWidget):
    """Draws the state of one page; redraws when it changes, but only where it is seen.

    Subclasses fill `body`, and override `refresh`.

    Parameters
    ----------
    state
        What it draws.
    """

    def __init__(self, state: PageState) -> None:
        super().__init__()
        self.state = state
        self._connections: list[tuple[SignalInstance, Callable[..., Any]]] = []
        self.needs = PlainLabel()
        self.needs.setObjectName("needs")
        self.needs.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addWidget(self.needs)
        self.body = QVBoxLayout()
        layout.addLayout(self.body)
        self._is_outdated = True
        self.listen(state.changed, self.redraw)

    def listen(self, signal: SignalInstance, slot: Callable[..., Any]) -> None:
        """Connect a signal of something that may outlive this page."""
        signal.connect(slot)
        self._connections.append((signal, slot))

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw what has changed while this page was hidden."""
        super().showEvent(event)
        if self._is_outdated:
            self.redraw()

    def redraw(self) -> None:
        """Draw the state now if it is seen, or else as soon as it is."""
        self._is_outdated = not self.isVisible()
        if not self._is_outdated:
            self.refresh()

    def refresh(self) -> None:
        """Draw the state as it is now; subclasses call this first."""
        reason = self.state.needs()
        self.needs.setText(reason or "")
        self.needs.setVisible(reason is not None)

    def close_page(self) -> None:
        """Let go of everything that outlives this page; called once, before it goes."""
        for signal, slot in self._connections:
            signal.disconnect(slot, missing_ok=True)
        self._connections.clear()
