"""The line above the thumbnails that says what their chips stand for."""

from __future__ import annotations

import html

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel

from napari_protoseg.schema import ClassSchema, TissueClass
from napari_protoseg.widgets.thumbnail_cell import letter_of, readable_on


class ClassLegend(QLabel):
    """A chip for each class, as on the thumbnails, with the name of the class."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("class-legend")
        self.setWordWrap(True)

    def show_schema(self, schema: ClassSchema | None) -> None:
        """Name the classes of a schema."""
        classes = () if schema is None else schema.classes
        self.setText(" &nbsp; ".join(_chip(known) for known in classes))


def _chip(known: TissueClass) -> str:
    style = f"background-color: {known.color}; color: {readable_on(QColor(known.color))};"
    letter, name = html.escape(letter_of(known)), html.escape(known.name)
    return f'<span style="{style}">&nbsp;{letter}&nbsp;</span>&nbsp;{name}'
