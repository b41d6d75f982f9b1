"""What a model sees in the open image, kept up with model, recipe and muted prototypes."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_protoseg.events import Event
from napari_protoseg.jobs.look import Sight, look
from napari_protoseg.jobs.previews import EpochPreview
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.workbench.open_image import OpenImage
from napari_protoseg.workbench.session import Session


class ImageMaps:
    """Class maps and prototype maps of the open image.

    One look at a time is under way; what has changed meanwhile is looked at once it is over, and
    a late result for another image is not shown.

    Parameters
    ----------
    session
        What all pages share.
    opened
        The open image; the masks that models make of it are proposed to it.
    """

    changed = Signal()
    """There are other maps, or none."""
    began = Signal()
    """A model looks at the image now; maps come later."""

    def __init__(self, session: Session, opened: OpenImage) -> None:
        self._session = session
        self._opened = opened
        self.sight: Sight | None = None
        self.class_maps: dict[int, NDArray[np.float32]] = {}
        self.source = ""
        self.prototype: int | None = None
        self._last: Sight | None = None
        self._is_looking = False
        self._looks_again = False
        session.opened.connect(self._forget)
        opened.loaded.connect(self._start)
        session.progressed.connect(self._preview)
        for signal in (
            session.bank_changed,
            session.muted_changed,
            session.model_changed,
            session.recipe_changed,
            session.schema_changed,
            session.images_changed,
        ):
            signal.connect(self._look)

    @property
    def is_looking(self) -> bool:
        """Whether a model looks at an image now, which takes minutes where it is very large."""
        return self._is_looking

    @property
    def prototype_map(self) -> NDArray[np.float32] | None:
        """Where the chosen prototype is in the image, ``(H, W)``; None without a choice."""
        if self.sight is None or self.prototype is None:
            return None
        return self.sight.prototype_map(self.prototype)

    @property
    def bank_version(self) -> int | None:
        """Of the bank whose prototypes the maps are of."""
        return None if self.sight is None else self.sight.key.bank_version

    def choose(self, prototype: int | None) -> None:
        """Show the map of one prototype too, or of none."""
        self.prototype = prototype
        self.changed.emit()

    def _preview(self, event: Event) -> None:
        """Show the class maps that a training under way has sent, if they are of this image."""
        if not isinstance(event, EpochPreview) or self._opened.image is None:
            return
        if event.image_id == self._opened.image.id and self._session.project is not None:
            ids = self._session.project.schema.ids
            self.class_maps = dict(zip(ids, event.class_maps, strict=False))
            self.source = f"epoch {event.epoch + 1} of the training under way"
            self.changed.emit()

    def _forget(self) -> None:
        self.prototype = self._last = None
        self._clear()

    def _start(self) -> None:
        self._clear()
        self._look()

    def _clear(self) -> None:
        self.sight, self.class_maps, self.source = None, {}, ""
        self.changed.emit()

    def _look(self) -> None:
        """Look at the open image, now or as soon as the look under way is over."""
        session, opened = self._session, self._opened
        if session.project is None or opened.image is None or opened.pixels is None:
            return
        if self._is_looking:
            self._looks_again = True
            return
        session.attempt(partial(self._begin, session.project, opened.image, opened.pixels))

    def _begin(self, project: Project, image: ImageRecord, pixels: NDArray[np.uint8]) -> None:
        session = self._session
        job = look(
            project,
            project.image(image.known_id),  # with the labels that it has now
            pixels,
            session.recipe,
            last=self._last,
            device=session.device,
        )
        self._is_looking, self._looks_again = True, False
        self.began.emit()
        session.run_aside("Look at the image", job, partial(self._seen, project))

    def _seen(self, project: object, sight: Sight | None) -> None:
        self._is_looking = False
        if project is not self._session.project:
            self._look()
            return
        if sight is not None:
            self._last = sight
            is_open = self._opened.image is not None and self._opened.image.id == sight.image.id
            if is_open:
                self.sight, self.class_maps = sight, sight.class_maps
                self.source = str(sight.key)
                self.changed.emit()
                self._opened.propose(sight)
            self._looks_again = self._looks_again or not is_open
        if self._looks_again:
            self._look()
