"""A small plot of curves that grow while a job runs."""

from __future__ import annotations

from collections.abc import Sequence

import pyqtgraph
from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette

from napari_protoseg.workbench.training_curves import Curve

_COLORS = ("#4c9be8", "#e8913d", "#59b36b")
_FAINT, _WIDE = 90, 2
_HEIGHT = 150


class CurvePlot(pyqtgraph.PlotWidget):
    """Draws curves under a title, in the colours of whatever window it is in.

    Parameters
    ----------
    title
        What is drawn over what.
    limits
        Lowest and highest value of the vertical axis; None to fit the curves.
    faint
        Whether the first curve is only the ground for one other, so that no legend is needed.
    """

    def __init__(
        self, title: str, limits: tuple[float, float] | None = None, *, faint: bool = False
    ) -> None:
        super().__init__(background=None, enableMenu=False)
        self._title = title
        self._faint = faint
        self._drawn: dict[str, pyqtgraph.PlotDataItem] = {}
        plot = self.getPlotItem()
        plot.setMouseEnabled(x=False, y=False)
        plot.hideButtons()
        plot.setDownsampling(auto=True, mode="mean")
        if limits is not None:
            plot.setYRange(*limits)
        self._legend = None if faint else plot.addLegend(offset=(-4, -4))
        self.setFixedHeight(_HEIGHT)
        self._color()

    def draw_curves(self, curves: Sequence[Curve]) -> None:
        """Draw these, and no others."""
        for name in self._drawn.keys() - {curve.name for curve in curves}:
            self.removeItem(self._drawn.pop(name))
        for curve in curves:
            if curve.name not in self._drawn:
                self._drawn[curve.name] = self._make(curve.name, len(self._drawn))
            drawn = self._drawn[curve.name]
            # A line of one point would not be seen.
            drawn.setSymbol("o" if not self._faint or len(curve.x) == 1 else None)
            drawn.setData(curve.x, curve.y)

    def points(self, name: str) -> int:
        """Return how many points of a curve are drawn."""
        x, _ = self._drawn[name].getOriginalDataset() if name in self._drawn else ((), ())
        return 0 if x is None else len(x)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 (Qt's name)
        """Follow the theme of the window."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._color()

    def _make(self, name: str, number: int) -> pyqtgraph.PlotDataItem:
        color = pyqtgraph.mkColor(_COLORS[number % len(_COLORS)])
        if self._faint and number == 0:
            color.setAlpha(_FAINT)
        pen = pyqtgraph.mkPen(color, width=_WIDE)
        return self.plot(pen=pen, name=name, symbolSize=6, symbolBrush=color)

    def _color(self) -> None:
        if not hasattr(self, "_legend"):
            return  # an event of the base class, before there is anything to colour
        color = self.palette().color(QPalette.ColorRole.WindowText).name()
        plot = self.getPlotItem()
        plot.setTitle(self._title, color=color, size="9pt")
        if self._legend is not None:
            self._legend.setLabelTextColor(color)
        for side in ("left", "bottom"):
            axis = plot.getAxis(side)
            axis.setPen(color)
            axis.setTextPen(color)
