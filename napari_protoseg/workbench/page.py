"""What the states of all pages have in common."""

from __future__ import annotations

from psygnal import Signal

from napari_protoseg.workbench.session import Session


class PageState:
    """State of one page.

    Parameters
    ----------
    session
        What all pages share.
    """

    changed = Signal()
    """What the page shows has changed."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def needs(self) -> str | None:
        """Return why the page's main verb cannot run now, as a sentence; None where it can."""
        raise NotImplementedError
