"""Points in time as a project records them: ISO 8601 text in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from napari_protoseg.project.records import RecordError


def recorded_time(moment: datetime) -> str:
    """Return the text that stands for `moment`; one without a zone is local time."""
    return moment.astimezone(UTC).isoformat()


def found_time(text: str) -> datetime:
    """Return the point in time that `text` stands for.

    Raises
    ------
    RecordError
        It is no ISO 8601 time, or one without a zone, which compares with no other.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RecordError(f"the time {text!r}") from error
    if moment.tzinfo is None:
        raise RecordError(f"the time {text!r}")
    return moment
