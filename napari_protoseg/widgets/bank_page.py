"""The page of the prototype bank: build it, see each prototype, mute it."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.project.records import ImageRecord
from napari_protoseg.widgets.elided import ElidedLabel
from napari_protoseg.widgets.forms import ConfigForm
from napari_protoseg.widgets.page import Page
from napari_protoseg.widgets.plain_text import PlainLabel, plain
from napari_protoseg.widgets.thumbnail_loader import ThumbnailLoader
from napari_protoseg.workbench.bank_page import BankState, Card

_CROPS = 4
_SIDE = 56
_FRAME = 6
_MAP = "Show where this prototype is in the open image; without one, in its nearest."
_COHESION = (
    "Cohesion: how alike the images of this prototype are, from 0 (nothing in common) to 1 (all "
    "the same). A low one may mix several looks of the class: ask for more prototypes."
)
_MAIN = ("config.clusters", "encoder")
_MORE = (
    "encoder_weights",
    "config.members",
    "config.max_white",
    "config.seed",
    "config.starts",
)


class BankPage(Page):
    """Draws a `BankState`.

    Parameters
    ----------
    state
        What it draws.
    """

    def __init__(self, state: BankState) -> None:
        super().__init__(state)
        self._bank = state
        self._loader = ThumbnailLoader()
        self._loader.loaded.connect(self._show_crop)
        self._loader.failed.connect(self._show_failure)
        self._crops: dict[str, list[QToolButton]] = {}
        self._mutes: dict[int, QPushButton] = {}
        self._maps: dict[int, QPushButton] = {}
        self._shown: tuple[Card, ...] | None = None

        self._main = ConfigForm(state.request, _MAIN, {"encoder": state.encoders})
        self._more = ConfigForm(state.request, _MORE)
        self._main.changed.connect(partial(self._edit, self._main, self._more))
        self._more.changed.connect(partial(self._edit, self._more, self._main))
        self._more.hide()
        options = QPushButton("More options")
        options.setObjectName("bank-options")
        options.setCheckable(True)
        options.toggled.connect(self._more.setVisible)
        self._licence = PlainLabel()
        self._licence.setObjectName("encoder-licence")
        self._licence.setWordWrap(True)
        self._build = QPushButton("Build bank")
        self._build.setObjectName("build-bank")
        self._build.clicked.connect(self._ask_for_bank)
        self._about = PlainLabel()
        self._about.setWordWrap(True)
        self._standing = PlainLabel()
        self._standing.setObjectName("bank-standing")
        self._standing.setWordWrap(True)
        self._cards = QVBoxLayout()
        self._cards.addStretch(1)
        inner = QWidget()
        inner.setLayout(self._cards)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        row = QHBoxLayout()
        row.addWidget(self._build, 1)
        row.addWidget(options)
        for widget in (self._main, self._licence, self._more):
            self.body.addWidget(widget)
        self.body.addLayout(row)
        self.body.addWidget(self._about)
        self.body.addWidget(self._standing)
        self.body.addWidget(area, 1)

    def refresh(self) -> None:
        """Draw the bank as it is now; cards are made anew only for another bank."""
        super().refresh()
        has_problem = bool(self._main.problem or self._more.problem)
        self._build.setEnabled(self._bank.needs() is None and not has_problem)
        self._licence.setText(self._bank.licence)
        bank = self._bank.bank
        self._about.setText(
            ""
            if bank is None
            else f"Bank {bank.version}, {bank.bank.created[:16].replace('T', ' ')} UTC, encoder "
            f"{bank.bank.encoder.name}."
        )
        self._about.setToolTip("" if bank is None else plain("\n".join(bank.bank.notices)))
        self._standing.setText(self._bank.standing())
        self._standing.setVisible(bool(self._standing.text()))
        if self._bank.cards is not self._shown:
            self._shown = self._bank.cards
            self._make_cards()
        for index, mute in self._mutes.items():
            muted = index in self._bank.muted
            mute.setChecked(muted)
            mute.setText("Unmute" if muted else "Mute")
        for card in self._bank.cards:
            reason, button = self._bank.map_needs(card), self._maps[card.index]
            button.setEnabled(reason is None)
            button.setToolTip(plain(reason or _MAP))
            button.setChecked(card.index == self._bank.mapped)

    def close_page(self) -> None:
        """Stop loading crops, and let go of the state."""
        super().close_page()
        self._loader.close()

    def _make_cards(self) -> None:
        while (item := self._cards.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().deleteLater()
        self._crops, self._mutes, self._maps = {}, {}, {}
        for card in self._bank.cards:
            self._cards.addWidget(self._card(card))
        self._cards.addStretch(1)

    def _card(self, card: Card) -> QFrame:
        frame = QFrame()
        frame.setObjectName(f"card-{card.index}")
        title = ElidedLabel(card.title)
        title.setToolTip(plain(card.title))
        title.setStyleSheet(
            f"border-left: 6px solid {card.tissue_class.color}; padding-left: 6px; "
            "font-weight: bold;"
        )
        facts = PlainLabel(f"{card.prototype.size} images, cohesion {card.prototype.cohesion:.2f}")
        facts.setToolTip(_COHESION)
        mute = QPushButton("Mute")
        mute.setObjectName(f"mute-{card.index}")
        mute.setCheckable(True)
        mute.setToolTip("A muted prototype leaves maps and masks; it stays in the bank.")
        mute.clicked.connect(partial(self._mute, card.index))
        self._mutes[card.index] = mute
        on_image = QPushButton("Map")
        on_image.setObjectName(f"map-{card.index}")
        on_image.setCheckable(True)
        on_image.clicked.connect(partial(self._show_map, card))
        self._maps[card.index] = on_image
        head = QHBoxLayout()
        head.addWidget(title, 1)
        head.addWidget(on_image)
        head.addWidget(mute)
        row = QHBoxLayout()
        for place, image in enumerate(card.crops[:_CROPS]):
            crop = QToolButton()
            crop.setObjectName(f"crop-{card.index}-{place}")
            crop.setFixedSize(_SIDE + _FRAME, _SIDE + _FRAME)
            crop.setIconSize(QSize(_SIDE, _SIDE))
            crop.setToolTip(plain(f"Open {image.path.name}"))
            crop.clicked.connect(partial(self._open, image))
            self._crops.setdefault(str(image.path), []).append(crop)
            self._loader.request(image.path, _SIDE)
            row.addWidget(crop)
        row.addStretch(1)
        layout = QVBoxLayout(frame)
        layout.addLayout(head)
        layout.addWidget(facts)
        layout.addLayout(row)
        return frame

    def _ask_for_bank(self) -> None:
        self._bank.session.attempt(self._bank.build)

    def _edit(self, edited: ConfigForm, other: ConfigForm) -> None:
        self._bank.request = edited.value
        other.set_value(edited.value)
        self.refresh()

    def _open(self, image: ImageRecord, _checked: bool = False) -> None:
        self._bank.session.attempt(lambda: self._bank.open_crop(image))

    def _show_map(self, card: Card, shown: bool) -> None:
        self._bank.session.attempt(lambda: self._bank.show_card(card, shown))
        self.refresh()

    def _mute(self, index: int, muted: bool) -> None:
        self._bank.session.attempt(lambda: self._bank.set_muted(index, muted))

    def _show_crop(self, path: str, image: QImage) -> None:
        crop_of = QPixmap.fromImage(image).scaled(
            _SIDE,
            _SIDE,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        for crop in self._crops.get(path, []):
            crop.setIcon(QIcon(crop_of))

    def _show_failure(self, path: str, reason: str) -> None:
        for crop in self._crops.get(path, []):
            crop.setText("missing")
            crop.setToolTip(plain(reason))
