"""The rows that list the versions of the prototype bank."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_protoseg.project.paths import owned_path, recorded_path
from napari_protoseg.project.records import BankRow
from napari_protoseg.project.times import found_time, recorded_time
from napari_protoseg.storage import make_folder, staged, storage_errors

_FOLDER = "banks"
_COLUMNS = "version, file, summary, schema_fingerprint, created, made_of"


def next_bank(connection: sqlite3.Connection, folder: Path) -> tuple[int, Path]:
    """Return the first version that is not recorded, and the path of its file."""
    version = connection.execute("SELECT coalesce(max(version), 0) + 1 FROM banks").fetchone()[0]
    return version, folder / _FOLDER / f"{version:04d}.safetensors"


@contextmanager
def staged_bank(content: bytes, folder: Path) -> Iterator[Path]:
    """Write a bank beside its place, synced; it is gone afterwards if it was not placed.

    Raises
    ------
    StorageError
    """
    with storage_errors(folder / _FOLDER):
        make_folder(folder / _FOLDER)
    with staged(folder / _FOLDER, content) as temporary:
        yield temporary


def insert_bank(connection: sqlite3.Connection, bank: BankRow, folder: Path) -> None:
    """Record `bank`, within the caller's transaction."""
    connection.execute(
        f"INSERT INTO banks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        (
            bank.version,
            recorded_path(bank.path, folder),
            bank.summary_json,
            bank.fingerprint,
            recorded_time(bank.created),
            bank.made_of_json,
        ),
    )


def select_bank(
    connection: sqlite3.Connection, folder: Path, version: int | None = None
) -> BankRow | None:
    """Return the bank of `version`, or the newest; None where there is none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM banks WHERE :version IS NULL OR version = :version"
        " ORDER BY version DESC LIMIT 1",
        {"version": version},
    ).fetchone()
    return None if row is None else _bank_of(row, folder)


def select_banks(connection: sqlite3.Connection, folder: Path) -> list[BankRow]:
    """Return every version of the bank, the oldest first."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM banks ORDER BY version")
    return [_bank_of(row, folder) for row in rows]


def _bank_of(row: tuple[int, str, str, str, str, str | None], folder: Path) -> BankRow:
    number, file, summary_json, fingerprint, created, made_of_json = row
    return BankRow(
        version=number,
        path=owned_path(file, folder),
        summary_json=summary_json,
        fingerprint=fingerprint,
        created=found_time(created),
        made_of_json=made_of_json,
    )
