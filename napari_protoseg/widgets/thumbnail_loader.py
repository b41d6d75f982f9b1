"""Thumbnails of image files, decoded in threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qtpy.QtCore import QObject, QRunnable, QThreadPool, Signal
from qtpy.QtGui import QImage

from napari_protoseg.errors import ProtosegError
from napari_protoseg.images.reading import read_image


class _Signals(QObject):
    loaded = Signal(str, QImage)
    failed = Signal(str, str)


class _Decoding(QRunnable):
    """Reads one image; says so by signals that live as long as their loader."""

    def __init__(self, path: Path, side: int, signals: _Signals) -> None:
        super().__init__()
        self._path, self._side, self._signals = path, side, signals

    def run(self) -> None:
        try:
            pixels = read_image(self._path)
        except ProtosegError as error:
            self._signals.failed.emit(str(self._path), str(error))
            return
        step = max(min(pixels.shape[:2]) // (2 * self._side), 1)
        small = np.ascontiguousarray(pixels[::step, ::step])
        height, width = small.shape[:2]
        image = QImage(small.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self._signals.loaded.emit(str(self._path), image.copy())


class ThumbnailLoader(QObject):
    """Decodes images in a pool of its own; results come on the main thread.

    Emits ``loaded(path, image)``, about twice the asked side large, or ``failed(path, reason)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pool = QThreadPool()
        self._pool.setMaxThreadCount(1)
        self._signals = _Signals()
        self.loaded = self._signals.loaded
        self.failed = self._signals.failed

    def request(self, path: Path, side: int) -> None:
        """Ask for an image, to be shown `side` pixels large."""
        self._pool.start(_Decoding(path, side, self._signals))

    def close(self) -> None:
        """Forget what was asked for, and wait for the one that is being read."""
        self._pool.clear()
        self._pool.waitForDone()
