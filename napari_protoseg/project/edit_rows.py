"""The rows of the journals: steps in order, and how many of them a stored mask holds."""

from __future__ import annotations

import json
import sqlite3
import uuid
from datetime import datetime
from typing import Any

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.edit_codec import JournalError
from napari_protoseg.project.edits import (
    Action,
    Edit,
    EditKey,
    EditKind,
    NewStep,
    Recorded,
    Step,
    Unnamed,
    move,
)
from napari_protoseg.project.heirs import Heirs
from napari_protoseg.project.records import MaskSource, RecordError
from napari_protoseg.project.schema_rows import select_heirs
from napari_protoseg.project.times import found_time, recorded_time

_COLUMNS = (
    "number, writer, serial, action, edit, kind, author, round_id, time, source_before,"
    " source_after, pixels"
)

# The steps of an image, each with the edit that it does or undoes, where that is there.
_STEPS = (
    "FROM edits AS step LEFT JOIN edits AS made"
    " ON made.image_id = step.image_id AND made.number = step.edit WHERE step.image_id = ?"
)


# More steps than anybody makes on an image that was opened once.
_BEYOND = 2**32


def new_writer() -> str:
    """Return a name for somebody who makes steps, unlike that of any other."""
    return uuid.uuid4().hex


def begin_journal(connection: sqlite3.Connection, image_id: int) -> None:
    """Let an image have a journal from now on, if it has none."""
    connection.execute(
        "INSERT INTO journals (image_id, folded) VALUES (?, 0) ON CONFLICT DO NOTHING", (image_id,)
    )


def journal_ends(connection: sqlite3.Connection, image_id: int) -> tuple[int, int] | None:
    """Return the numbers of the last step in the stored mask and in the journal; None without."""
    row = connection.execute(
        "SELECT folded, max(folded, coalesce((SELECT max(number) FROM edits"
        " WHERE edits.image_id = journals.image_id), 0)) FROM journals WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def select_unfolded(connection: sqlite3.Connection) -> list[int]:
    """Return the images with steps that their stored masks do not hold yet."""
    rows = connection.execute(
        "SELECT image_id FROM journals WHERE image_id IN (SELECT id FROM images)"
        " AND EXISTS (SELECT 1 FROM edits"
        " WHERE edits.image_id = journals.image_id AND number > folded) ORDER BY image_id"
    )
    return [int(image_id) for (image_id,) in rows]


def select_unfolded_authors(connection: sqlite3.Connection, image_id: int) -> list[str | Unnamed]:
    """Return whose edit each step does or undoes that the stored mask does not hold yet."""
    rows = connection.execute(
        f"SELECT made.author, made.number IS NOT NULL {_STEPS} AND step.number > (SELECT folded"
        " FROM journals WHERE journals.image_id = step.image_id) ORDER BY step.number",
        (image_id,),
    )
    return [
        (Unnamed.MODEL if is_there else Unnamed.UNKNOWN) if author is None else str(author)
        for author, is_there in rows
    ]


def select_journaled(connection: sqlite3.Connection) -> list[int]:
    """Return the images that have a journal."""
    rows = connection.execute("SELECT image_id FROM journals ORDER BY image_id")
    return [int(image_id) for (image_id,) in rows]


def set_folded(connection: sqlite3.Connection, image_id: int, number: int) -> None:
    """Record that the stored mask holds all steps up to this one."""
    connection.execute("UPDATE journals SET folded = ? WHERE image_id = ?", (number, image_id))


def insert_step(connection: sqlite3.Connection, image_id: int, step: Step) -> int:
    """Append a step to the journal of an image, in the caller's transaction; return its number."""
    ends = journal_ends(connection, image_id)
    assert ends is not None
    number = ends[1] + 1
    edit = step.edit
    about: tuple[Any, ...] = (None,) * 6
    found: int | None = number
    if step.action is Action.DO:
        before, after = (None, None) if edit.sources is None else edit.sources
        sources = (_source_json(before), _source_json(after))
        about = (edit.kind.value, edit.author, edit.round_id, *sources, edit.pixels)
    else:
        found = number_of(connection, image_id, edit.key)
    connection.execute(
        "INSERT INTO edits (image_id, number, writer, serial, action, edit, time, kind, author,"
        " round_id, source_before, source_after, pixels)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            image_id,
            number,
            step.key.writer,
            step.key.serial,
            step.action.value,
            found,
            recorded_time(step.time),
            *about,
        ),
    )
    return number


def replace_pixels(
    connection: sqlite3.Connection, image_id: int, key: EditKey, pixels: bytes
) -> None:
    """Record what an edit has really changed, where it was made over classes that are gone."""
    connection.execute(
        "UPDATE edits SET pixels = ? WHERE image_id = ? AND writer = ? AND serial = ?",
        (pixels, image_id, key.writer, key.serial),
    )


def number_of(connection: sqlite3.Connection, image_id: int, key: EditKey) -> int | None:
    """Return the number of a step in the journal of an image, or None where it is not there."""
    row = connection.execute(
        "SELECT number FROM edits WHERE image_id = ? AND writer = ? AND serial = ?",
        (image_id, key.writer, key.serial),
    ).fetchone()
    return None if row is None else int(row[0])


def has_moved(connection: sqlite3.Connection, image_id: int, step: NewStep) -> bool:
    """Tell whether the mask is another than the one that a step was made on.

    So it is where others have made steps that whoever made this one does not know of, where not
    all that they did before is in the journal, where that was given up with a mask that was lost,
    or where classes have gone or come back since. So it may be, of all their steps, where there
    was no journal yet to tell what others have changed, or where a step sets a class that is gone,
    which may be there already, unseen.
    """
    ends = journal_ends(connection, image_id)
    if step.since is None or ends is None or ends[1] != step.since + step.key.serial - 1:
        return True
    (others,) = connection.execute(
        "SELECT count(*) FROM edits WHERE image_id = ? AND number > ? AND writer != ?",
        (image_id, step.since, step.key.writer),
    ).fetchone()
    if others:
        return True
    heirs = select_heirs(connection)
    if not heirs.shows_as(select_heirs(connection, step.schema)):
        return True
    return bool(heirs) and heirs.hides(step.edit.change.after[0])


def next_to_go(connection: sqlite3.Connection, image_id: int, action: Action) -> int | None:
    """Return the number of the edit that is next to be undone, or redone; None without one."""
    done: list[int] = []
    undone: list[int] = []
    for found, edit in connection.execute(
        "SELECT action, edit FROM edits WHERE image_id = ? ORDER BY number", (image_id,)
    ):
        move(done, undone, Action(found), int(edit))
    stack = done if action is Action.UNDO else undone
    return stack[-1] if stack else None


def select_deeds(connection: sqlite3.Connection, image_id: int) -> frozenset[str]:
    """Return what was done last, an `Action` each, with the edits of people that a journal has.

    An edit that is missing may be a person's, and passes for one that is done; so does a release,
    which has work of people before it when it is undone.
    """
    rows = connection.execute(
        "SELECT iif(coalesce(kind, 'release') = 'release', 'do', action) FROM (SELECT step.action,"
        f" made.author, made.kind, max(step.number) {_STEPS} GROUP BY step.edit)"
        " WHERE author IS NOT NULL OR kind IS NULL",
        (image_id,),
    )
    return frozenset(action for (action,) in rows)


def select_steps(
    connection: sqlite3.Connection,
    image_id: int,
    shape: tuple[int, int],
    heirs: Heirs | None = None,
    *,
    after: int = 0,
) -> list[Recorded]:
    """Return the steps of an image of this height and width that come after a number, in order.

    Their pixels are as they are recorded, or as they are seen with `heirs` in the place of classes
    that are gone.

    Raises
    ------
    ProjectError
        The journal is damaged.
    """
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM edits WHERE image_id = :id AND (number > :after OR number IN"
        " (SELECT edit FROM edits WHERE image_id = :id AND number > :after)) ORDER BY number",
        {"id": image_id, "after": after},
    )
    edits: dict[int, Edit] = {}
    steps = []
    for number, writer, serial, action, edit, *about, pixels in rows:
        key = EditKey(writer, serial)
        time = _found_time(about[3])
        if action == Action.DO:
            edits[number] = _found_edit(key, about, pixels, shape, heirs)
        elif edit not in edits:
            raise _damaged(f"edit {edit} of image {image_id} is missing")
        if number > after:
            step = Step(key=key, action=Action(action), edit=edits[edit], time=time)
            steps.append(Recorded(number, step))
    return steps


def let_go(
    connection: sqlite3.Connection, image_id: int, *, most_edits: int, most_bytes: int
) -> int:
    """Delete what can no longer be reached, and the oldest edits that a stored mask holds.

    The newest edit stays, and what remains is a journal in order. So do all steps while there is
    one that the stored mask does not hold.

    Returns
    -------
    int
        How many edits were let go that could still have been undone.
    """
    ends = journal_ends(connection, image_id)
    if ends is None or ends[0] != ends[1]:
        return 0
    done: list[int] = []
    undone: list[int] = []
    undoing: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for number, action, edit, size in connection.execute(
        "SELECT number, action, edit, coalesce(length(pixels), 0) FROM edits WHERE image_id = ?"
        " ORDER BY number",
        (image_id,),
    ).fetchall():
        try:
            move(done, undone, Action(action), int(edit))
        except ProjectError:
            return 0  # whoever opens the image is told that its journal is damaged
        undoing[int(edit)] = int(number)
        sizes[int(number)] = int(size)
    kept = len(done)
    total = sum(sizes[edit] for edit in (*done, *undone))
    for edit in done:
        if kept + len(undone) <= 1 or (kept + len(undone) <= most_edits and total <= most_bytes):
            break
        kept -= 1
        total -= sizes[edit]
    gone = len(done) - kept
    stays = {*done[gone:], *undone, *(undoing[edit] for edit in undone)}
    connection.executemany(
        "DELETE FROM edits WHERE image_id = ? AND number = ?",
        [(image_id, number) for number in sizes if number not in stays],
    )
    return gone


def forget_journal(connection: sqlite3.Connection, image_id: int) -> None:
    """Delete the steps of an image; its journal goes on so far behind them that all can tell."""
    ends = journal_ends(connection, image_id)
    if ends is not None:
        connection.execute("DELETE FROM edits WHERE image_id = ?", (image_id,))
        set_folded(connection, image_id, ends[1] + _BEYOND)


def _found_edit(
    key: EditKey, about: list[Any], pixels: bytes, shape: tuple[int, int], heirs: Heirs | None
) -> Edit:
    kind, author, round_id, time, before, after = about
    try:
        known = EditKind(kind)
    except ValueError as error:
        raise _damaged(str(error)) from error
    return Edit(
        key=key,
        kind=known,
        author=author,
        round_id=round_id,
        time=_found_time(time),
        shape=shape,
        pixels=pixels,
        sources=None if after is None else (_found_source(before), _require_source(after)),
        heirs=heirs,
    )


def _found_time(text: str) -> datetime:
    try:
        return found_time(text)
    except RecordError as error:
        raise _damaged(str(error)) from error


def _source_json(source: MaskSource | None) -> str | None:
    if source is None:
        return None
    return json.dumps(
        {
            "round_id": source.round_id,
            "bank_version": source.bank_version,
            "label_condition": source.label_condition,
            "recipe": source.recipe_json,
            "created": recorded_time(source.created),
            "labels": source.labels,
        }
    )


def _found_source(text: str | None) -> MaskSource | None:
    return None if text is None else _require_source(text)


def _require_source(text: str) -> MaskSource:
    try:
        found = json.loads(text)
        return MaskSource(
            round_id=None if found["round_id"] is None else _stored_number(found["round_id"]),
            bank_version=None
            if found["bank_version"] is None
            else _stored_number(found["bank_version"]),
            label_condition=_stored_text(found["label_condition"]),
            recipe_json=_stored_text(found["recipe"]),
            created=_found_time(str(found["created"])),
            labels=None if found.get("labels") is None else _stored_text(found["labels"]),
        )
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise _damaged(f"where a mask came from: {error}") from error


def _stored_number(value: int | str) -> int:
    """Return a number of JSON that the database can hold, too; `ValueError` where it is larger."""
    number = int(value)
    if abs(number) >= 2**63:
        raise ValueError("a number is larger than any of a row")
    return number


def _stored_text(value: object) -> str:
    """Return a text of JSON; `ValueError` where it holds half a character, as JSON alone admits."""
    text = str(value)
    text.encode()
    return text


def _damaged(reason: str) -> JournalError:
    return JournalError(f"the journal of edits is damaged ({reason})")
