"""Hostile class schemas."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from fuzzed_reader import FuzzedReader
from mutations import json_text, placed

from napari_protoseg.schema import ClassSchema

_SCHEMA = json.loads(ClassSchema.from_names(["tumour", "stroma", "necrosis"]).to_json())
_SCHEMA["retired"] = [9, 8]
_SCHEMA["merged"] = [[9, 8], [8, 1]]
_SCHEMA["classes"][0]["former"] = ["cancer"]


def _make(random: Random, folder: Path) -> Path:
    return placed(random, folder, ".json", json_text(random, _SCHEMA))


def _read(path: Path, random: Random) -> None:
    schema = ClassSchema.read(path)
    assert all(0 < number < 255 for number in schema.ids)
    assert all(name.isprintable() for name in schema.names)
    assert set(schema.heirs.values()) <= {0, *schema.ids}
    assert ClassSchema.model_validate_json(schema.to_json()) == schema


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=12_000,
    code={
        "napari_protoseg/schema.py": (
            "TissueClass._id_in_range", "TissueClass._name_says_something",
            "TissueClass._color_is_hex", "TissueClass._shortcut_is_one_key",
            "ClassSchema._retired_were_ids", "ClassSchema._nothing_twice",
            "ClassSchema._merged_into_what_is_there", "ClassSchema.heirs", "ClassSchema.read",
            "_schema_error",
        ),
    },
)  # fmt: skip
