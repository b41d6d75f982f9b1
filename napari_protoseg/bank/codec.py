"""The file of a prototype bank: safetensors, its records as JSON in the header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from napari_protoseg.bank.bank import BankConfig, Prototype, PrototypeBank
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.errors import BankError
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import require_file, storage_errors

BANK_FORMAT = "1"
"""Version of the file format."""


class _Header(BaseModel):
    """Everything of a bank but its centres."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prototypes: tuple[Prototype, ...]
    class_schema: ClassSchema
    encoder: EncoderIdentity
    config: BankConfig
    micrometres_per_pixel: float | None
    created: str
    notices: tuple[str, ...]


def encoded_bank(bank: PrototypeBank) -> bytes:
    """Return the content of the file of a bank."""
    header = _Header(
        prototypes=bank.prototypes,
        class_schema=bank.schema,
        encoder=bank.encoder,
        config=bank.config,
        micrometres_per_pixel=bank.micrometres_per_pixel,
        created=bank.created,
        notices=bank.notices,
    )
    metadata = {"bank_format": BANK_FORMAT, "bank": header.model_dump_json()}
    centres = np.ascontiguousarray(bank.centres)
    return save({"centres": centres}, metadata=metadata)


def read_bank(path: Path) -> PrototypeBank:
    """Read a bank of `encoded_bank`.

    Raises
    ------
    StorageError
        There is no such file, or no permission to read it.
    BankError
        The file is damaged, not a bank, or of a newer program.
    """
    require_file(path)
    with storage_errors(path):
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                centres = file.get_tensor("centres")
        except (SafetensorError, AttributeError, TypeError) as error:  # numpy lacks some types
            raise _unreadable(path, "not a prototype bank, or damaged") from error
    version = metadata.get("bank_format")
    if version != BANK_FORMAT:
        raise _unreadable(path, f"a file of format {version!r}, not a bank of {BANK_FORMAT!r}")
    try:
        header = _Header.model_validate_json(metadata.get("bank", ""))
    except ValidationError as error:
        raise _unreadable(path, "its records are damaged") from error
    bank = PrototypeBank(
        centres=centres,
        prototypes=header.prototypes,
        schema=header.class_schema,
        encoder=header.encoder,
        config=header.config,
        micrometres_per_pixel=header.micrometres_per_pixel,
        created=header.created,
        notices=header.notices,
    )
    if not _consistent(bank):
        raise _unreadable(path, "its centres and its records do not fit together")
    return bank


def _consistent(bank: PrototypeBank) -> bool:
    return (
        bank.centres.dtype == np.float32
        and bank.centres.shape == (len(bank.prototypes), bank.encoder.width)
        and bool(np.isfinite(bank.centres).all())
        and {p.class_id for p in bank.prototypes} == set(bank.schema.ids)
        and all(len(p.members) == len(p.similarities) for p in bank.prototypes)
    )


def _unreadable(path: Path, what: str) -> BankError:
    return BankError(
        what,
        where=path,
        remedy="Build the bank again, or update the program if it is older than the bank.",
    )
