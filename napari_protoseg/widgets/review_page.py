"""The page of review: step through images, correct their masks, make and apply masks."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QShortcut,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.masks.recipe import Background
from napari_protoseg.plugin.canvas import Canvas
from napari_protoseg.plugin.keys import KEYS, UNDO_KEYS, press
from napari_protoseg.project.records import ReviewStatus
from napari_protoseg.widgets.apply_form import ApplyForm
from napari_protoseg.widgets.class_palette import ClassPalette
from napari_protoseg.widgets.elided import ElidedLabel
from napari_protoseg.widgets.page import Page
from napari_protoseg.widgets.plain_text import PlainLabel, plain
from napari_protoseg.widgets.review_list import ReviewListView
from napari_protoseg.workbench.review_list import ReviewFilter
from napari_protoseg.workbench.review_page import ReviewState

_NAMES_IN_QT = {"PageDown": "PgDown", "PageUp": "PgUp", "Control": "Ctrl", "Meta": "Ctrl"}
"""Keys that Qt spells otherwise than napari."""

_LOOKS_AFTER = 100
"""Milliseconds from a move of the mouse until it is said what it points at."""

_BACKGROUNDS = {
    Background.OFF: "none",
    Background.WHITE: "glass (near-white)",
    Background.MARGIN: "where no class is clear",
}
_STATUSES = (
    (ReviewStatus.ACCEPTED, "Accept", "accept", "Alt+A"),
    (ReviewStatus.SKIPPED, "Skip", "skip", "Alt+K"),
    (ReviewStatus.FLAGGED, "Flag", "flag", "Alt+G"),
)


class ReviewPage(Page):
    """Draws a `ReviewState`.

    Parameters
    ----------
    state
        What it draws.
    canvas
        Where the open image is drawn.
    """

    def __init__(self, state: ReviewState, canvas: Canvas) -> None:
        super().__init__(state)
        self._review = state
        self._canvas = canvas
        self._buttons: dict[str, QPushButton] = {}
        self._listing = QComboBox()
        self._listing.setObjectName("review-filter")
        for kind in ReviewFilter:
            self._listing.addItem(kind.value, kind)
        self._listing.activated.connect(self._list)
        self._list_view = ReviewListView(state)
        self._list_view.chosen.connect(self._open)
        self._name = ElidedLabel()
        self._name.setObjectName("review-image")
        self._name.setStyleSheet("font-weight: bold;")
        self._current = PlainLabel()
        self._current.setObjectName("review-current")
        self._current.setWordWrap(True)
        self._pixel = ElidedLabel()
        self._pixel.setObjectName("review-pixel")
        self._looking = QTimer()
        self._looking.setSingleShot(True)
        self._looking.setInterval(_LOOKS_AFTER)
        self._looking.timeout.connect(self._show_pixel)
        self._palette = ClassPalette()
        self._palette.picked.connect(canvas.pick_class)
        self._more = self._button("Apply a model to new images", "show-apply", self._show_apply)
        self._more.setCheckable(True)
        self._apply = ApplyForm(state)
        self._apply.hide()
        self._lay_out()
        self._add_shortcuts()
        self.listen(state.listed, self._relist)
        self.listen(state.stands_otherwise, self._follow_state)
        self.listen(canvas.class_changed, self._show_picked)
        self.listen(canvas.opacity_changed, self._show_opacity)
        for signal in (canvas.pointed, state.opened.loaded, state.opened.mask_changed):
            self.listen(signal, self._look_at_pixel)

    def refresh(self) -> None:
        """Draw the state as it is now."""
        super().refresh()
        state, session = self._review, self._review.session
        item = state.current
        if item is not None:
            self._name.setText(item.image.path.name)
            self._name.setToolTip(plain(str(item.image.path)))
        self._name.setVisible(item is not None)
        self._show_state()
        is_open = state.opened.image is not None
        can_write = session.read_only() is None
        self._buttons["restore-layers"].setEnabled(is_open)
        for name in ("accept", "skip", "flag", "save-mask", "release"):
            self._buttons[name].setEnabled(is_open and can_write)
        self._buttons["unmark"].setEnabled(
            can_write and item is not None and item.status is not None
        )
        project = session.project
        self._palette.show_schema(None if project is None else project.schema)
        self._show_picked()
        reason = state.masks_need()
        self._buttons["make-masks"].setEnabled(reason is None)
        self._buttons["make-masks"].setToolTip(
            plain(reason or "Accepted masks are left as they are.")
        )
        self._show_recipe()
        self._show_prototypes()
        self._apply.refresh()

    def close_page(self) -> None:
        """Let go of everything that outlives this page."""
        self._looking.stop()
        super().close_page()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self._listing, 1)
        row.addWidget(self._button("Previous", "previous-image", partial(self._step, -1)))
        row.addWidget(self._button("Next", "next-image", partial(self._step, 1)))
        verdict = QHBoxLayout()
        for status, text, name, key in _STATUSES:
            button = self._button(text, name, partial(self._mark, status))
            button.setToolTip(plain(f"{text} the mask, and go on: {key}"))
            verdict.addWidget(button)
        verdict.addWidget(self._button("Unmark", "unmark", self._unmark))
        verdict.addWidget(self._button("Save", "save-mask", self._save))
        self._opacity = _slider("mask-opacity", round(100 * self._canvas.mask_opacity))
        self._opacity.valueChanged.connect(lambda v: self._canvas.set_mask_opacity(v / 100))
        self._background = QComboBox()
        self._background.setObjectName("background")
        for background, words in _BACKGROUNDS.items():
            self._background.addItem(words, background)
        self._background.activated.connect(self._set_background)
        self._margin = _slider("margin", 0)
        self._margin.setToolTip(
            "How sure a class must be for a pixel to get it: pixels whose highest class map lies "
            "below stay unlabelled. Further right, more stays unlabelled."
        )
        self._margin.valueChanged.connect(self._set_margin)
        self._prototype = QComboBox()
        self._prototype.setObjectName("prototype-map")
        self._prototype.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._prototype.activated.connect(self._set_prototype)
        self._form = QFormLayout()
        self._form.addRow("Mask opacity", self._opacity)
        self._form.addRow("Background", self._background)
        self._margin_number = PlainLabel()
        self._margin_number.setObjectName("margin-number")
        self._margin_row = QWidget()
        margin = QHBoxLayout(self._margin_row)
        margin.setContentsMargins(0, 0, 0, 0)
        margin.addWidget(self._margin, 1)
        margin.addWidget(self._margin_number)
        self._form.addRow("Margin", self._margin_row)
        self._form.addRow("Prototype map", self._prototype)
        verbs = QHBoxLayout()
        verbs.addWidget(self._button("Make all masks", "make-masks", self._make_masks))
        release = self._button("Give back to the model", "release", self._release)
        release.setToolTip(
            "Let the model set again what you have set, and what was imported, as far as it is in "
            "view: zoom in to give back a part. Where the model sets pixels anew, that is a step "
            "of its own: undo takes it back first, then this."
        )
        verbs.addWidget(release)
        restore = self._button("Bring layers back", "restore-layers", self._canvas.restore)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self._list_view, 1)
        column.addWidget(self._name)
        column.addWidget(self._current)
        column.addWidget(self._pixel)
        column.addLayout(verdict)
        column.addWidget(self._palette)
        column.addLayout(self._form)
        column.addLayout(verbs)
        column.addWidget(restore)
        column.addWidget(self._more)
        column.addWidget(self._apply)
        keys = QLabel(
            "Keys: Page Down and Page Up step, Alt+digit picks a class, Alt+M saves the mask."
        )
        keys.setWordWrap(True)
        keys.setToolTip(plain("\n".join(f"{key.chord}: {key.words}" for key in KEYS)))
        column.addWidget(keys)
        # With many classes, or the form open, there is more than a small screen has room for.
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(inner)
        self.body.addWidget(area, 1)

    def _button(self, text: str, name: str, slot: object) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.clicked.connect(slot)
        self._buttons[name] = button
        return button

    def _add_shortcuts(self) -> None:
        """Let the keys of the canvas work while this page has the focus, too."""
        for key in (*KEYS, *UNDO_KEYS):
            names = [_NAMES_IN_QT.get(name, name) for name in key.chord.split("-")]
            shortcut = QShortcut(QKeySequence("+".join(names)), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(partial(press, key, self._canvas))

    def _look_at_pixel(self) -> None:
        """Say who has set the pixel under the mouse, soon: it goes by many."""
        if self.isVisible() and not self._looking.isActive():
            self._looking.start()

    def _show_pixel(self) -> None:
        place = self._canvas.pointed_pixel()
        words = "" if place is None else self._review.origin_at(*place)
        self._pixel.setText(f"Under the mouse: {words}." if words else "")
        self._pixel.setToolTip(plain(self._pixel.text()))

    def _show_state(self) -> None:
        self._current.setText(self._review.state_of_current() or "Open an image from the list.")
        self._list_view.follow_state()

    def _follow_state(self) -> None:
        """Draw no more than how the open mask stands, or else all once the page is seen."""
        if self.isVisible():
            self._show_state()
        else:
            self._is_outdated = True

    def _show_picked(self) -> None:
        self._palette.show_picked(self._canvas.picked_class)

    def _show_opacity(self) -> None:
        self._opacity.blockSignals(True)
        self._opacity.setValue(round(100 * self._canvas.mask_opacity))
        self._opacity.blockSignals(False)

    def _show_recipe(self) -> None:
        recipe = self._review.session.recipe
        self._background.setCurrentIndex(self._background.findData(recipe.background))
        has_margin = recipe.background is Background.MARGIN
        self._margin.blockSignals(True)
        self._margin.setValue(round(100 * (recipe.margin or 0)))
        self._margin.blockSignals(False)
        number = "learned" if recipe.margin is None else f"{recipe.margin:.2f}"
        self._margin_number.setText(number)
        self._margin_row.setVisible(has_margin)
        self._form.labelForField(self._margin_row).setVisible(has_margin)

    def _show_prototypes(self) -> None:
        bank = self._review.bank
        titles = ["none", *(card.title for card in bank.cards)]
        if titles != [self._prototype.itemText(k) for k in range(self._prototype.count())]:
            self._prototype.clear()
            self._prototype.addItem("none", None)
            for card in bank.cards:
                self._prototype.addItem(card.title, card.index)
        reason = bank.maps_need()
        self._prototype.setEnabled(reason is None)
        self._prototype.setToolTip(plain(reason or "Where a prototype is in the open image."))
        self._prototype.setCurrentIndex(max(self._prototype.findData(bank.mapped), 0))

    def _relist(self) -> None:
        if self.isVisible():
            self._list_view.reread()

    def redraw(self) -> None:
        """Draw the state, and mark the open image in the list."""
        if self._is_outdated and self.isVisible():
            self._list_view.reread()
        super().redraw()
        if self.isVisible():
            self._list_view.follow()

    def _list(self) -> None:
        self._review.show_listing(self._listing.currentData())

    def _open(self, row: int) -> None:
        if not self._review.session.attempt(lambda: self._review.open_row(row)):
            self._list_view.follow()

    def _step(self, by: int) -> None:
        self._review.session.attempt(lambda: self._review.step(by))

    def _mark(self, status: ReviewStatus) -> None:
        self._review.session.attempt(lambda: self._review.mark(status))

    def _unmark(self) -> None:
        self._review.session.attempt(self._review.unmark)

    def _save(self) -> None:
        self._review.session.attempt(self._review.save)

    def _release(self) -> None:
        block = self._canvas.in_view()
        if block is not None:
            self._review.session.attempt(lambda: self._review.release(block))

    def _make_masks(self) -> None:
        self._review.session.attempt(self._review.make_masks)

    def _set_background(self) -> None:
        chosen = self._background.currentData()
        self._review.session.attempt(lambda: self._review.set_background(chosen))

    def _set_margin(self, hundredths: int) -> None:
        self._review.session.attempt(lambda: self._review.set_margin(hundredths / 100))

    def _set_prototype(self) -> None:
        chosen = self._prototype.currentData()
        self._review.session.attempt(lambda: self._review.bank.show_map(chosen))

    def _show_apply(self) -> None:
        self._apply.setVisible(self._more.isChecked())


def _slider(name: str, value: int) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setObjectName(name)
    slider.setRange(0, 100)
    slider.setValue(value)
    return slider
