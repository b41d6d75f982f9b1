"""A bank finds the appearances of each class, whatever the order of images, and is kept on disk."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from napari_protoseg.bank.bank import (
    BankConfig,
    PrototypeBank,
    PrototypeState,
    build_bank,
)
from napari_protoseg.bank.codec import encoded_bank, read_bank
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.errors import BankError, StorageError
from napari_protoseg.schema import ClassSchema, TissueClass

SCHEMA = ClassSchema.from_names(["tumor", "stroma"])
WIDTH = 12
ENCODER = EncoderIdentity(
    name="made",
    weights_sha256="ab" * 32,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    width=WIDTH,
    stride=16,
    licence="none",
)


class Made:
    """Features of two classes in appearances of different frequency: 2 of tumor, 3 of stroma."""

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        appearance = np.repeat(np.arange(5), [12, 30, 9, 15, 21])
        self.appearance = appearance
        self.embeddings = np.eye(5, WIDTH)[appearance] + generator.normal(
            0, 0.05, (len(appearance), WIDTH)
        )
        self.labels = np.stack([appearance < 2, appearance >= 2], axis=1).astype(np.int8)
        self.white = np.zeros(len(appearance))
        self.hashes = [f"{value:08x}" for value in generator.permutation(len(appearance))]
        self.sizes: list[float | None] = [0.25] * 50 + [0.5] * 30 + [None] * 7

    def build(self, rows=slice(None), **config) -> PrototypeBank:
        order = np.arange(len(self.hashes))[rows]
        return build_bank(
            self.embeddings[order],
            self.labels[order],
            self.white[order],
            [self.hashes[row] for row in order],
            SCHEMA,
            ENCODER,
            BankConfig(**config),
            created="2024-05-06T07:08:09+00:00",
            micrometres_per_pixel=[self.sizes[row] for row in order],
        )


@pytest.fixture
def made() -> Made:
    return Made()


def test_two_appearances_become_two_prototypes(made: Made) -> None:
    bank = made.build(clusters=(2, 3))
    assert bank.centres.shape == (5, WIDTH)
    assert bank.centres.dtype == np.float32
    assert bank.clusters_per_class == (2, 3)
    assert bank.class_positions.tolist() == [0, 0, 1, 1, 1]
    # Largest first, so the appearances come in the order of their frequency.
    assert bank.centres.argmax(axis=1).tolist() == [1, 0, 4, 3, 2]
    assert [p.size for p in bank.prototypes] == [30, 12, 21, 15, 9]
    assert bank.notices == ()


def test_a_prototype_is_the_mean_of_its_members(made: Made) -> None:
    bank = made.build(clusters=(2, 3), members=5)
    rows = {content_hash: row for row, content_hash in enumerate(made.hashes)}
    for centre, prototype in zip(bank.centres, bank.prototypes, strict=True):
        members = made.embeddings[[rows[content_hash] for content_hash in prototype.members]]
        members /= np.linalg.norm(members, axis=1, keepdims=True)
        mean = members.mean(axis=0)
        np.testing.assert_allclose(centre, mean / np.linalg.norm(mean), atol=1e-6)
        np.testing.assert_allclose(prototype.similarities, members @ centre, atol=1e-6)
        assert list(prototype.similarities) == sorted(prototype.similarities, reverse=True)
        assert len(prototype.members) == 5
        assert 0.9 < prototype.cohesion < np.mean(prototype.similarities)
        assert prototype.state is PrototypeState.ACTIVE


def test_one_prototype_per_class_is_enough(made: Made) -> None:
    bank = made.build(clusters=1)
    assert bank.clusters_per_class == (1, 1)
    assert [p.size for p in bank.prototypes] == [42, 45]


def test_the_order_of_images_changes_nothing(made: Made) -> None:
    first = made.build(clusters=3)
    shuffled = made.build(np.random.default_rng(9).permutation(len(made.hashes)), clusters=3)
    np.testing.assert_array_equal(first.centres, shuffled.centres)
    assert first.prototypes == shuffled.prototypes
    assert first.fingerprint == shuffled.fingerprint


def test_the_pixel_size_is_the_median_of_those_known(made: Made) -> None:
    assert made.build().micrometres_per_pixel == 0.25
    made.sizes = [None] * len(made.sizes)
    assert made.build().micrometres_per_pixel is None


def test_a_class_that_never_stands_alone_still_gets_prototypes(made: Made) -> None:
    made.labels[:, 1] = 1
    bank = made.build(clusters=2)
    assert bank.clusters_per_class == (2, 2)
    assert len(bank.notices) == 1
    assert bank.notices[0].startswith("tumor: ")


def test_fewer_images_than_clusters_give_fewer_prototypes_and_say_so(made: Made) -> None:
    bank = made.build([*range(3), *range(42, 87)], clusters=5)
    assert bank.clusters_per_class == (3, 5)
    assert any("3 images give 3 distinct prototypes instead of 5" in n for n in bank.notices)


def test_images_that_look_the_same_leave_no_empty_prototype(made: Made) -> None:
    made.embeddings[:42] = made.embeddings[0]
    bank = made.build(clusters=3)
    assert bank.clusters_per_class == (1, 3)
    assert bank.prototypes[0].size == 42
    assert "tumor: 42 images give 1 distinct prototypes instead of 3." in bank.notices


@pytest.mark.parametrize("clusters", [0, -1, (2,), (2, 0), (1, 2, 3), ()])
def test_clusters_that_do_not_fit_the_classes_are_refused(made: Made, clusters) -> None:
    with pytest.raises(BankError, match="tumor, stroma"):
        made.build(clusters=clusters)


def test_a_bank_accepts_its_encoder_and_an_extended_schema(made: Made) -> None:
    bank = made.build()
    more = (TissueClass(id=9, name="fat", color="#FFFFFF"), *SCHEMA.classes)
    extended = ClassSchema(classes=more)
    bank.require(ENCODER.model_copy(update={"licence": "another wording"}), extended)
    assert bank.positions_in(extended).tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("change", [{"name": "other"}, {"weights_sha256": "0" * 64}])
def test_a_bank_refuses_another_encoder(made: Made, change: dict[str, str]) -> None:
    with pytest.raises(BankError, match=r"made with made \(weights abababab\), not with"):
        made.build().require(ENCODER.model_copy(update=change), SCHEMA)


def test_a_bank_refuses_a_schema_without_its_classes(made: Made) -> None:
    with pytest.raises(BankError, match=r"tumor \(id 1\), stroma \(id 2\)"):
        made.build().require(ENCODER, ClassSchema.from_names(["tumor", "necrosis"]))


def test_the_fingerprint_tells_banks_apart_but_not_their_states(made: Made) -> None:
    bank = made.build()
    muted = tuple(p.model_copy(update={"state": PrototypeState.MUTED}) for p in bank.prototypes)
    assert replace(bank, prototypes=muted).fingerprint == bank.fingerprint
    assert made.build(clusters=2).fingerprint != bank.fingerprint


def test_a_bank_read_is_the_bank_written(made: Made, tmp_path: Path) -> None:
    bank = made.build(clusters=(2, 3))
    path = tmp_path / "banks" / "0001.safetensors"
    path.parent.mkdir()
    path.write_bytes(encoded_bank(bank))
    again = read_bank(path)
    np.testing.assert_array_equal(again.centres, bank.centres)
    for name in (
        "prototypes", "schema", "encoder", "config", "micrometres_per_pixel", "created",
        "notices", "fingerprint",
    ):  # fmt: skip
        assert getattr(again, name) == getattr(bank, name), name


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_bank_is_refused(made: Made, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "bank.safetensors"
    path.write_bytes(encoded_bank(made.build())[:kept])
    with pytest.raises(BankError, match=r"bank\.safetensors: not a prototype bank"):
        read_bank(path)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({"centres": [1, 2]})])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bank.safetensors"
    path.write_bytes(content)
    with pytest.raises(BankError, match=r"bank\.safetensors: not a prototype bank"):
        read_bank(path)


def _rewritten(made: Made, path: Path, **changes: object) -> None:
    """Write a bank whose header or centres are changed."""
    bank = made.build()
    content = encoded_bank(bank)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    centres = changes.pop("centres", bank.centres)
    save_file({"centres": centres}, path, metadata=metadata | changes)


def test_a_bank_of_a_newer_format_is_refused(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    _rewritten(made, path, bank_format="2")
    with pytest.raises(BankError, match="format '2'"):
        read_bank(path)


def test_a_bank_with_damaged_records_is_refused(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    _rewritten(made, path, bank="{}")
    with pytest.raises(BankError, match="records are damaged"):
        read_bank(path)


@pytest.mark.parametrize(
    "centres",
    [
        np.ones((5, WIDTH), np.float32),
        np.ones((6, WIDTH - 1), np.float32),
        np.ones((6, WIDTH), np.float64),
        np.full((6, WIDTH), np.nan, np.float32),
    ],
)
def test_centres_that_do_not_fit_the_records_are_refused(made, tmp_path: Path, centres) -> None:
    path = tmp_path / "bank.safetensors"
    _rewritten(made, path, centres=centres)
    with pytest.raises(BankError, match="do not fit together"):
        read_bank(path)


def test_a_file_of_other_tensors_is_not_a_bank(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    save_file({"weight": np.ones(3)}, path)
    with pytest.raises(BankError, match="not a prototype bank"):
        read_bank(path)


@pytest.mark.parametrize("kind", ["BF16", "F8_E5M2"])
def test_centres_of_a_type_that_numpy_does_not_have_are_refused(
    made: Made, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "bank.safetensors"
    width = {"BF16": "[1,2]", "F8_E5M2": "[1,4]"}[kind]
    header = f'{{"centres":{{"dtype":"{kind}","shape":{width},"data_offsets":[0,4]}}}}'.encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    # Where ml_dtypes is installed, numpy does have the first.
    with pytest.raises(BankError, match=r"not a prototype bank|not a bank of"):
        read_bank(path)


def test_a_long_word_in_a_bank_makes_no_long_message(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    save_file({"centres": np.ones(3)}, path, metadata={"bank_format": "x" * 100_000})
    with pytest.raises(BankError, match=r"x \.\.\. x") as caught:
        read_bank(path)
    assert len(str(caught.value)) < 10_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_bank_that_is_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bank.safetensors")
    with pytest.raises(StorageError, match="not a file"):
        read_bank(tmp_path / "bank.safetensors")


def test_a_missing_bank_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"bank\.safetensors"):
        read_bank(tmp_path / "bank.safetensors")
