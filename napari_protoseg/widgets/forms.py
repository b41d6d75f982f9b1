"""Option forms, made by magicgui from frozen configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    FileEdit,
    FloatSpinBox,
    LineEdit,
    SpinBox,
)
from magicgui.widgets.bases import BaseValueWidget
from pydantic import BaseModel, ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_protoseg.widgets.plain_text import PlainLabel, plain
from napari_protoseg.workbench.options import Option, OptionKind, changed, options_of, sentence_of

_LARGEST = 2**31 - 1  # of Qt's whole numbers
_DECIMALS = 3


class ConfigForm(QWidget):
    """Shows some fields of a frozen configuration, and returns changed configurations.

    Each widget is called by its field, with dashes, after `prefix`.

    Parameters
    ----------
    config
        A frozen pydantic model with a NumPy-style docstring.
    names
        Of the fields to show, in this order; ``outer.inner`` for those of a configuration within
        it. The others keep their values.
    choices
        Values to offer for fields that would take any text, by name of field.
    prefix
        Of the names of the widgets.
    """

    changed = Signal()
    """A person has changed a field: look at `value` and `problem`."""

    def __init__(
        self,
        config: BaseModel,
        names: Sequence[str],
        choices: Mapping[str, Sequence[str]] | None = None,
        prefix: str = "option",
    ) -> None:
        super().__init__()
        self._value = self._given = config
        self._edits: dict[str, Any] = {}
        self._options = options_of(type(config), names, choices)
        self._widgets: dict[str, BaseValueWidget[Any]] = {}
        form = QFormLayout()
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        for option in self._options:
            widget = _widget(option, option.of(config))
            field = option.name.split(".")[-1].replace("_", "-")
            widget.native.setObjectName(f"{prefix}-{field}")
            label = PlainLabel(option.label)
            label.setToolTip(plain(option.tip))
            form.addRow(label, widget.native)
            widget.changed.connect(partial(self._edit, option))
            self._widgets[option.name] = widget
        self._problem = PlainLabel()
        self._problem.setObjectName("option-problem")
        self._problem.setWordWrap(True)
        self._problem.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._problem)

    @property
    def value(self) -> Any:
        """A configuration with what is filled in; the last valid one while there is a problem."""
        return self._value

    @property
    def problem(self) -> str | None:
        """Why what is filled in is not valid, as a sentence; None where it is."""
        return self._problem.text() or None

    def set_value(self, config: BaseModel) -> None:
        """Show another configuration of the same kind; this is no change by a person."""
        self._value = self._given = config
        self._edits = {}
        for option in self._options:
            widget = self._widgets[option.name]
            with widget.changed.blocked():
                _show(widget, option, option.of(config))
        self._say("")

    def _edit(self, option: Option, shown: Any) -> None:
        # Only what was touched is replaced: what a widget rounds stays as it was given.
        self._edits[option.name] = _read(option, shown)
        try:
            self._value = changed(self._given, self._edits)
        except ValidationError as error:
            self._say(sentence_of(error, self._options))
        else:
            self._say("")
        self.changed.emit()

    def _say(self, sentence: str) -> None:
        self._problem.setText(sentence)
        self._problem.setVisible(bool(sentence))


def _widget(option: Option, value: Any) -> BaseValueWidget[Any]:
    """Make the widget of a field."""
    widget: BaseValueWidget[Any]
    low, high = option.minimum, option.maximum
    match option.kind:
        case OptionKind.CHECK:
            widget = CheckBox()
        case OptionKind.CHOICE:
            widget = ComboBox(choices=_choices(option, value))
            # Else the longest choice decides how narrow a dock can be.
            widget.native.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
        case OptionKind.WHOLE:
            widget = SpinBox(
                min=-_LARGEST if low is None else int(low) + option.is_open_below,
                max=_LARGEST if high is None else int(high) - option.is_open_above,
                step=1,
            )
        case OptionKind.SHARE:
            assert low is not None and high is not None
            least = 10**-_DECIMALS
            widget = FloatSpinBox(
                min=low + least * option.is_open_below,
                max=high - least * option.is_open_above,
                step=0.05,
            )
            widget.native.setDecimals(_DECIMALS)
        case OptionKind.FILE:
            widget = FileEdit(nullable=option.may_be_missing)
        case OptionKind.TEXT:
            widget = LineEdit()
            if option.may_be_missing:
                widget.native.setPlaceholderText("none")
    widget.tooltip = option.tip
    _show(widget, option, value)
    return widget


def _choices(option: Option, value: Any) -> list[tuple[str, Any]]:
    """Return what a combo box offers; also the value that it has, where that is another."""
    values = option.choices if value in option.choices else (*option.choices, value)
    return [(str(getattr(known, "value", known)), known) for known in values]


def _show(widget: BaseValueWidget[Any], option: Option, value: Any) -> None:
    if isinstance(widget, ComboBox):
        widget.choices = _choices(option, value)
    widget.value = option.text_of(value) if option.kind is OptionKind.TEXT else value


def _read(option: Option, shown: Any) -> Any:
    return option.parsed(shown) if option.kind is OptionKind.TEXT else shown
