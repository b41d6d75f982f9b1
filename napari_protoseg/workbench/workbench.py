"""The session and the states of its pages."""

from __future__ import annotations

from napari_protoseg.workbench.bank_page import BankState
from napari_protoseg.workbench.export_page import ExportState
from napari_protoseg.workbench.image_maps import ImageMaps
from napari_protoseg.workbench.labels_page import LabelsState
from napari_protoseg.workbench.open_image import OpenImage
from napari_protoseg.workbench.recording import Recording
from napari_protoseg.workbench.review_page import ReviewState
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.training_page import TrainingState


class Workbench:
    """Everything that a window with this plugin holds, without Qt.

    Parameters
    ----------
    session
        What all pages share.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.recording = Recording(session)
        self.opened = OpenImage(session, self.recording)
        self.maps = ImageMaps(session, self.opened)
        self.labels = LabelsState(session)
        self.bank = BankState(session, self.maps)
        self.training = TrainingState(session)
        self.export = ExportState(session, recipe=lambda: session.recipe)
        self.review = ReviewState(session, self.opened, self.maps, self.bank)

    def close(self) -> None:
        """Stop what runs, wait until it has saved, and close the project."""
        self.session.close()
