"""Hostile masks whose digest is right: values that mean nothing, or contradict each other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

from napari_protoseg.project.arrays import ArrayFolder, MaskArrays

_CLASSES = (0, 1, 2, 3, 4, 7, 200, 254, 255)
_SETTERS = (0, 1, 2, 3, 4, 5, 7, 15, 16, 17, 18, 200, 254, 255)
_CONFIDENCES = (0.0, -0.0, 0.5, 1.0, 1.001, 9.0, -1.0, float("inf"), float("-inf"), float("nan"))


def plant_mask(random: Random, project: Path) -> None:
    """Change the stored mask of one image of a sound project, and its digest with it."""
    arrays = ArrayFolder(project / "arrays.zarr")
    with closing(sqlite3.connect(project / "project.db", isolation_level=None)) as connection:
        rows = connection.execute(
            "SELECT image_id, row, height, width FROM masks JOIN images ON id = image_id"
        ).fetchall()
        image_id, row, height, width = random.choice(rows)
        stored = arrays.read(height, width, row)
        mask, confidence, setters = (part.copy() for part in stored.parts)
        for _ in range(random.choice((1, 1, 2))):
            block = random.choice(
                (
                    (slice(None), slice(None)),
                    (0, slice(None)),
                    (random.randrange(height), random.randrange(width)),
                )
            )
            for part, values in (
                (mask, _CLASSES),
                (confidence, _CONFIDENCES),
                (setters, _SETTERS),
            ):
                if random.random() < 0.5:
                    part[block] = random.choice(values)
        entry = MaskArrays(mask, confidence, setters)
        arrays.write([row], [entry])
        connection.execute(
            "UPDATE masks SET digest = ? WHERE image_id = ?", (entry.digest, image_id)
        )
        # It holds all that was drawn, which would else cover most of it.
        connection.execute(
            "UPDATE journals SET folded = (SELECT max(number) FROM edits"
            " WHERE edits.image_id = journals.image_id) WHERE image_id = ?",
            (image_id,),
        )
