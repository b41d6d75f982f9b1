"""The page of the prototype bank: build it, see each prototype, mute it."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.widgets.page import Page
from napari_protoseg.widgets.thumbnail_loader import ThumbnailLoader
from napari_protoseg.workbench.bank_page import BankState, Card

_CROPS = 4
_SIDE = 56


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
        self._crops: dict[str, list[QLabel]] = {}
        self._mutes: dict[int, QPushButton] = {}
        self._shown: tuple[Card, ...] | None = None

        self._clusters = QSpinBox()
        self._clusters.setObjectName("clusters")
        self._clusters.setRange(1, 20)
        self._clusters.setValue(3)
        self._clusters.setToolTip("How many appearances of each class are told apart.")
        form = QFormLayout()
        form.addRow("Prototypes per class", self._clusters)
        self._build = QPushButton("Build bank")
        self._build.setObjectName("build-bank")
        self._build.clicked.connect(self._ask_for_bank)
        self._about = QLabel()
        self._about.setWordWrap(True)
        self._cards = QVBoxLayout()
        self._cards.addStretch(1)
        inner = QWidget()
        inner.setLayout(self._cards)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        self.body.addLayout(form)
        self.body.addWidget(self._build)
        self.body.addWidget(self._about)
        self.body.addWidget(area, 1)

    def refresh(self) -> None:
        """Draw the bank as it is now; cards are made anew only for another bank."""
        super().refresh()
        self._build.setEnabled(self._bank.needs() is None)
        bank = self._bank.bank
        self._about.setText(
            ""
            if bank is None
            else f"Bank {bank.version}, {bank.bank.created[:16].replace('T', ' ')}, encoder "
            f"{bank.bank.encoder.name}."
        )
        self._about.setToolTip("" if bank is None else "\n".join(bank.bank.notices))
        if self._bank.cards is not self._shown:
            self._shown = self._bank.cards
            self._make_cards()
        for index, mute in self._mutes.items():
            muted = index in self._bank.muted
            mute.setChecked(muted)
            mute.setText("Unmute" if muted else "Mute")

    def close_page(self) -> None:
        """Stop loading crops, and let go of the state."""
        super().close_page()
        self._loader.close()

    def _make_cards(self) -> None:
        while (item := self._cards.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().deleteLater()
        self._crops, self._mutes = {}, {}
        for card in self._bank.cards:
            self._cards.addWidget(self._card(card))
        self._cards.addStretch(1)

    def _card(self, card: Card) -> QFrame:
        frame = QFrame()
        frame.setObjectName(f"card-{card.index}")
        title = QLabel(f"<b>{card.title}</b>")
        title.setStyleSheet(f"border-left: 6px solid {card.tissue_class.color}; padding-left: 6px;")
        facts = QLabel(f"{card.prototype.size} images, cohesion {card.prototype.cohesion:.2f}")
        mute = QPushButton("Mute")
        mute.setObjectName(f"mute-{card.index}")
        mute.setCheckable(True)
        mute.setToolTip("A muted prototype leaves maps and masks; it stays in the bank.")
        mute.clicked.connect(partial(self._mute, card.index))
        self._mutes[card.index] = mute
        head = QHBoxLayout()
        head.addWidget(title, 1)
        head.addWidget(mute)
        row = QHBoxLayout()
        for image in card.crops[:_CROPS]:
            crop = QLabel()
            crop.setFixedSize(_SIDE, _SIDE)
            crop.setToolTip(image.path.name)
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
        config = BankConfig(clusters=self._clusters.value())
        self._bank.request = self._bank.request.model_copy(update={"config": config})
        self._bank.session.attempt(self._bank.build)

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
            crop.setPixmap(crop_of)

    def _show_failure(self, path: str, reason: str) -> None:
        for crop in self._crops.get(path, []):
            crop.setText("missing")
            crop.setToolTip(reason)
