"""Hostile prototype banks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from fuzzed_reader import FuzzedReader
from mutations import changed_safetensors, json_text, placed

from napari_protoseg.bank.bank import BankConfig, Prototype, PrototypeBank
from napari_protoseg.bank.codec import encoded_bank, read_bank
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.schema import ClassSchema

_WIDTH = 8


@cache
def _valid() -> bytes:
    schema = ClassSchema.from_names(["tumour", "stroma"])
    rows = np.random.default_rng(0).normal(size=(3, _WIDTH)).astype(np.float32)
    bank = PrototypeBank(
        centres=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        prototypes=tuple(
            Prototype(
                class_id=class_id,
                members=("a" * 64, "b" * 64),
                similarities=(0.9, 0.8),
                size=5,
                cohesion=0.7,
            )
            for class_id in (1, 1, 2)
        ),
        schema=schema,
        encoder=EncoderIdentity(
            name="test_resnet",
            weights_sha256="0" * 64,
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            width=_WIDTH,
            stride=16,
            licence="none",
        ),
        config=BankConfig(),
        micrometres_per_pixel=0.5,
        created="2026-03-01T12:30:00+00:00",
        notices=("one",),
    )
    return encoded_bank(bank)


def _changed(random: Random, metadata: dict[str, str]) -> None:
    match random.randrange(8):
        case 0:
            metadata.pop(random.choice(tuple(metadata)), None)
        case 1:
            metadata["bank_format"] = random.choice(("", "0", "2", "1\0", "x" * 10**5))
        case _:
            records = json.loads(metadata["bank"])
            metadata["bank"] = json_text(random, records).decode("utf-8", "replace")


def _make(random: Random, folder: Path) -> Path:
    content = _valid()
    if random.random() < 0.95:
        try:
            content = changed_safetensors(random, content, _changed)
        except (KeyError, ValueError):  # there are no such records
            content = content[: random.randrange(len(content))]
    return placed(random, folder, ".safetensors", content)


def _read(path: Path, random: Random) -> None:
    bank = read_bank(path)
    assert bank.centres.shape == (len(bank.prototypes), bank.encoder.width)
    assert np.isfinite(bank.centres).all()
    assert all(np.isfinite(p.similarities).all() for p in bank.prototypes)


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=8_000,
    code={"napari_protoseg/bank/codec.py": ("read_bank", "_consistent", "_unreadable")},
)
