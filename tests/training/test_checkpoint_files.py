"""Checkpoints give the model back, and what is none is refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from driven_jobs import finish
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_training import CONFIG, RECORD, WIDTH, inputs, network, same, trained
from torch import Tensor

from napari_protoseg.encoders.encoder import create_encoder
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.errors import CheckpointError, StorageError
from napari_protoseg.network.build import create_model
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.record import ModelKind
from napari_protoseg.training.checkpoint import (
    Checkpoint,
    TrainingState,
    read_state,
    write_checkpoint,
)
from napari_protoseg.training.loop import BEST, LAST, train_network


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, RECORD, network())
    return path


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a whole training."""
    folder = tmp_path_factory.mktemp("trained")
    trained(folder)
    return folder / "round" / LAST


def rewritten(path: Path, change: dict[str, object], **tensors: Tensor) -> Path:
    """Write the checkpoint again with another header, and some tensors exchanged."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["checkpoint"]) | change
        held = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    target = path.with_name("rewritten.safetensors")
    save_file(held | tensors, target, metadata={"checkpoint": json.dumps(header)})
    return target


def test_a_network_comes_back_with_its_weights_and_its_record(checkpoint: Path):
    read = Checkpoint(checkpoint)
    assert read.record == RECORD
    assert read.state is None
    model = read.restore()
    assert not model.training
    assert same(model.state_dict(), network().state_dict())
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(model(images), network().eval()(images), strict=True):
            assert torch.equal(ours, theirs)


def test_a_network_of_cosines_comes_back_as_one(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, RECORD.model_copy(update={"cosine": True}), network(cosine=True))
    assert Checkpoint(path).restore().cosine is True


def test_frozen_evidence_comes_back_without_any_weights_file(tmp_path: Path):
    weights = tmp_path / "encoder.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), weights)
    encoder = create_encoder("test_resnet", weights, device="cpu")
    record = RECORD.model_copy(
        update={"kind": ModelKind.EVIDENCE, "encoder": encoder.identity, "backbone": None}
    )
    prototypes = torch.randn(3, encoder.width)
    model = create_model(record, prototypes=prototypes, encoder=encoder)
    with torch.no_grad():
        model.scale.mul_(3)
        model.bias.add_(0.5)
    path = tmp_path / "round" / "model.safetensors"
    write_checkpoint(path, record, model)
    images = torch.rand(2, 3, 64, 48)
    with torch.no_grad():
        (expected,) = model(images)

    weights.unlink()
    restored = Checkpoint(path).restore()
    assert isinstance(restored, EvidenceModel)
    with torch.no_grad():
        (got,) = restored(images)
    assert torch.equal(got, expected)


def test_the_state_of_the_training_comes_back(last: Path):
    state = Checkpoint(last).state
    assert isinstance(state, TrainingState)
    assert state.config == CONFIG
    assert (state.epoch, state.batch, state.micro_batch) == (2, 0, 2)
    assert len(state.history) == 2
    assert state.best == min(event.held_out_loss for event in state.history)


def test_the_state_is_read_without_the_weights(last: Path, checkpoint: Path, tmp_path: Path):
    assert read_state(last) == Checkpoint(last).state
    assert read_state(checkpoint) is None, "it is of a model alone"
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(last.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(damaged)
    with pytest.raises(StorageError):
        read_state(tmp_path / "missing.safetensors")


def test_a_checkpoint_may_be_written_over_while_its_tensors_are_in_use(checkpoint: Path):
    read = Checkpoint(checkpoint)
    before = {k: v.clone() for k, v in read.part("model/").items()}
    with checkpoint.open("r+b") as file:
        file.write(bytes(checkpoint.stat().st_size))
    assert same(read.part("model/"), before)


def test_a_failed_write_leaves_the_checkpoint_before_it(tiny_tmpfs: Path):
    path = tiny_tmpfs / "model.safetensors"
    write_checkpoint(path, RECORD, network())
    before = path.read_bytes()
    with pytest.raises(StorageError, match="no space left"):
        for number in range(9):
            write_checkpoint(tiny_tmpfs / f"{number}.safetensors", RECORD, network())
    with pytest.raises(StorageError, match="no space left"):
        write_checkpoint(path, RECORD, network())
    assert path.read_bytes() == before
    assert Checkpoint(path).restore() is not None


def test_a_full_disk_ends_a_training_with_the_disk_named(tiny_tmpfs: Path):
    given = inputs(tiny_tmpfs)
    (tiny_tmpfs / "filler").write_bytes(bytes(500 * 1024))
    with pytest.raises(StorageError, match="no space left"):
        finish(train_network(given, CONFIG))
    # The model of the best epoch had still found room.
    assert [path.name for path in (tiny_tmpfs / "round").iterdir()] == [BEST]
    assert Checkpoint(tiny_tmpfs / "round" / BEST).restore() is not None


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_checkpoint_is_refused(checkpoint: Path, share: float):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        Checkpoint(checkpoint)
    assert caught.value.where == str(checkpoint)


@pytest.mark.parametrize("place", [0, 8, 40])
def test_a_damaged_checkpoint_is_refused(checkpoint: Path, place: int):
    content = bytearray(checkpoint.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    checkpoint.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint(checkpoint)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path):
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "harm",))

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(CheckpointError):
        Checkpoint(path)
    torch.save({"model": Harm()}, path)
    with pytest.raises(CheckpointError):
        Checkpoint(path)
    assert not (tmp_path / "harm").exists()


def test_weights_of_another_program_are_no_checkpoint(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        Checkpoint(path)
    save_file({"weight": torch.ones(3)}, path, metadata={"checkpoint": "[1, 2"})
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        Checkpoint(path)


@pytest.mark.parametrize("change", [{}, {"colour": "unheard of"}, {"record": "moved"}])
def test_a_checkpoint_of_a_later_version_asks_for_that_version(
    checkpoint: Path, change: dict[str, object]
):
    later = rewritten(checkpoint, {"format": 2, **change})
    with pytest.raises(CheckpointError, match="later version") as caught:
        Checkpoint(later)
    assert "current version" in caught.value.remedy


def test_a_header_with_more_in_it_than_this_version_knows_is_refused(checkpoint: Path):
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint(rewritten(checkpoint, {"colour": "unheard of"}))


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(StorageError, match=r"nowhere\.safetensors"):
        Checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises((StorageError, CheckpointError), match=str(tmp_path)):
        Checkpoint(tmp_path)


def test_weights_of_another_model_than_the_record_tells_are_refused(checkpoint: Path):
    scales = rewritten(checkpoint, {}, **{"model/scales": torch.ones(7)})
    with pytest.raises(CheckpointError, match="not those of the model"):
        Checkpoint(scales).restore()
    record = RECORD.model_dump(mode="json") | {"backbone": "test_resnet"}
    with pytest.raises(CheckpointError, match="not those of the model"):
        Checkpoint(rewritten(checkpoint, {"record": record})).restore()


@pytest.mark.parametrize(
    "change", [{"backbone": None}, {"kind": "evidence", "encoder": None}], ids=str
)
def test_a_record_that_lacks_something_is_refused(checkpoint: Path, change: dict[str, object]):
    record = RECORD.model_dump(mode="json") | change
    with pytest.raises(CheckpointError, match="lacks what this kind of model needs"):
        Checkpoint(rewritten(checkpoint, {"record": record})).restore()


def test_an_evidence_record_without_prototypes_is_refused():
    identity = EncoderIdentity(
        name="test_resnet",
        weights_sha256="0" * 64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        width=WIDTH,
        stride=16,
        licence="none",
    )
    record = RECORD.model_copy(update={"kind": ModelKind.EVIDENCE, "encoder": identity})
    with pytest.raises(CheckpointError, match="lacks"):
        create_model(record)


def test_the_optimiser_of_another_model_does_not_load(last: Path):
    parameter = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(CheckpointError, match="does not fit"):
        Checkpoint(
            rewritten(last, {}, **{"random/cpu": torch.ones(3, dtype=torch.uint8)})
        ).load_optimiser(torch.optim.AdamW([parameter]))


def test_a_model_alone_holds_no_state_of_a_training(checkpoint: Path):
    optimiser = torch.optim.AdamW(network().parameters())
    with pytest.raises(CheckpointError, match="not the state of its training"):
        Checkpoint(checkpoint).load_optimiser(optimiser)


@pytest.mark.parametrize("backbone", ["resnet50", "eva_giant_patch14_224", "hf_hub:any/model"])
def test_a_record_of_another_network_than_the_weights_is_refused_before_it_is_built(
    checkpoint: Path, backbone: str
):
    record = RECORD.model_copy(update={"backbone": backbone}).model_dump(mode="json")
    path = rewritten(checkpoint, {"record": record})
    with pytest.raises(CheckpointError, match=r"rewritten\.safetensors"):
        Checkpoint(path).restore()


@pytest.mark.parametrize("positions", [[0, 0, 9], [-1, 0, 1], [0]])
def test_prototypes_of_no_class_are_refused(checkpoint: Path, positions: list[int]):
    record = {**RECORD.model_dump(mode="json"), "class_positions": positions}
    with pytest.raises(CheckpointError, match=r"rewritten\.safetensors"):
        Checkpoint(rewritten(checkpoint, {"record": record})).restore()


def test_a_state_of_no_numbered_parameter_is_refused(checkpoint: Path):
    path = rewritten(checkpoint, {}, **{"optimiser/x/step": torch.ones(1)})
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint(path).load_optimiser(torch.optim.AdamW(network().parameters()))


@pytest.mark.parametrize(
    "strange",
    [
        {"optimiser/0/other": torch.ones(1)},
        {"optimiser/0/exp_avg": torch.ones(7)},
        {"optimiser/0/step": torch.ones(2)},
        {"optimiser/99999/step": torch.ones(1)},
    ],
    ids=str,
)
def test_a_state_that_would_fail_at_the_next_step_is_refused(
    last: Path, strange: dict[str, Tensor]
):
    path = rewritten(last, {}, **strange)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        Checkpoint(path).load_optimiser(torch.optim.AdamW(network().parameters()))
