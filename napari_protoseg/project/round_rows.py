"""The rows that list the rounds of training."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_protoseg.project.paths import owned_path, recorded_path
from napari_protoseg.project.records import Round, RoundStatus, Stage
from napari_protoseg.project.times import found_time, recorded_time
from napari_protoseg.storage import make_folder, storage_errors

_SELECT = (
    "SELECT id, folder, bank_version, config, status, metrics, created, finished, stage, made_of"
    " FROM rounds"
)


def begin_round(
    connection: sqlite3.Connection,
    folder: Path,
    *,
    bank_version: int,
    config_json: str,
    created: datetime,
    stage: Stage,
    made_of_json: str | None,
) -> Round:
    """Make the folder of a new round, then record it, within the caller's transaction."""
    number = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM rounds").fetchone()[0]
    begun = Round(
        id=number,
        folder=folder / "runs" / f"{number:04d}",
        bank_version=bank_version,
        config_json=config_json,
        status=RoundStatus.RUNNING,
        metrics_json=None,
        created=created,
        finished=None,
        stage=Stage(stage),
        made_of_json=made_of_json,
    )
    with storage_errors(begun.folder):
        make_folder(begun.folder)
    connection.execute(
        "INSERT INTO rounds (id, folder, bank_version, config, status, created, stage, made_of)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            begun.id,
            recorded_path(begun.folder, folder),
            begun.bank_version,
            begun.config_json,
            begun.status.value,
            recorded_time(begun.created),
            begun.stage.value,
            begun.made_of_json,
        ),
    )
    return begun


def change_round(
    connection: sqlite3.Connection,
    round_id: int,
    *,
    status: RoundStatus,
    metrics_json: str | None,
    finished: datetime | None,
) -> bool:
    """Change the row of a round, within the caller's transaction; tell whether there is one."""
    changed = connection.execute(
        "UPDATE rounds SET status = ?, metrics = coalesce(?, metrics), finished = ? WHERE id = ?",
        (
            status.value,
            metrics_json,
            None if finished is None else recorded_time(finished),
            round_id,
        ),
    )
    return changed.rowcount == 1


def select_latest_round(
    connection: sqlite3.Connection, folder: Path, statuses: Collection[RoundStatus], stage: Stage
) -> Round | None:
    """Return the newest round of a stage with one of `statuses`, or None where there is none."""
    marks = ", ".join("?" for _ in statuses)
    row = connection.execute(
        f"{_SELECT} WHERE stage = ? AND status IN ({marks}) ORDER BY id DESC LIMIT 1",
        [stage.value, *(status.value for status in statuses)],
    ).fetchone()
    return None if row is None else _round_of(row, folder)


def select_rounds(connection: sqlite3.Connection, folder: Path) -> list[Round]:
    """Return every round, the oldest first."""
    rows = connection.execute(f"{_SELECT} ORDER BY id").fetchall()
    return [_round_of(row, folder) for row in rows]


def _round_of(row: Sequence[Any], folder: Path) -> Round:
    number, place, bank_version, config_json, status, metrics_json, *rest = row
    created, finished, stage, made_of_json = rest
    return Round(
        id=number,
        folder=owned_path(place, folder),
        bank_version=bank_version,
        config_json=config_json,
        status=RoundStatus(status),
        metrics_json=metrics_json,
        created=found_time(created),
        finished=None if finished is None else found_time(finished),
        stage=Stage(stage),
        made_of_json=made_of_json,
    )
