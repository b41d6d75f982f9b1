"""The package computes the numbers of the reference files; the check tells where it does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import plain_formulas
import pytest

HERE = Path(__file__).parent
SMALL = [HERE / "alike.npz", HERE / "unlike.npz"]
SHARED = ["equal_clusters.npz", "unequal_clusters.npz"]
SLOW_TO_DERIVE = {"grad_cams"}


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """`benchmarks/check_parity.py`, loaded from its file."""
    path = HERE.parents[1] / "benchmarks" / "check_parity.py"
    if not path.is_file():
        pytest.skip(f"{path} is no part of this distribution")
    spec = importlib.util.spec_from_file_location("check_parity", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_parity"] = module
    spec.loader.exec_module(module)
    return module


def altered(folder: Path, **changes: object) -> Path:
    """Write a copy of a small file with some arrays exchanged; None takes one out."""
    with np.load(SMALL[1], allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files} | changes
    path = folder / "altered.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def reference(key: str) -> np.ndarray:
    with np.load(SMALL[1], allow_pickle=False) as file:
        return file[key]


def disagreeing(check: ModuleType, path: Path) -> set[str]:
    return {d.key for d in check.differences(check.read_reference(path)) if not d.agrees}


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_every_output_agrees_with_plain_loops(check: ModuleType, path: Path):
    found = check.differences(check.read_reference(path))
    assert {d.key: d.relative for d in found if not d.agrees} == {}
    assert len(found) == 20


@pytest.mark.parametrize("name", SHARED)
def test_every_output_agrees_with_the_reference_implementation(
    check: ModuleType, protoseg_data: Path, name: str
):
    found = check.differences(check.read_reference(protoseg_data / "parity" / name))
    assert {d.key: d.relative for d in found if not d.agrees} == {}
    assert len(found) == 20


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_the_committed_vectors_are_those_of_the_plain_loops(path: Path):
    with np.load(path, allow_pickle=False) as file:
        given = {key: file[key] for key in file.files}
    computed = plain_formulas.outputs(given, given["fused"].shape[-1])
    assert set(given) - set(computed) - SLOW_TO_DERIVE == {
        *("k_list", "image_labels", "logits", "cams", "prototypes", "image", "encoder_weight"),
        *("stage_cam_2", "stage_cam_3", "stage_cam_4", "ground_truth"),
        *("cluster_input", "cluster_init_rows"),
    }
    for key, value in computed.items():
        np.testing.assert_allclose(given[key], value, rtol=1e-9, atol=1e-12, err_msg=key)


def test_the_committed_vectors_hold_an_empty_mask_and_a_lone_prototype():
    with np.load(SMALL[0]) as alike, np.load(SMALL[1]) as unlike:
        assert alike["fg_pixels"].min() == 0
        assert unlike["k_list"][0] == 1
        assert not unlike["selected"][:, 0].any()


@pytest.mark.parametrize("key", ["merged_cams_max", "loss_bg", "grad_cams", "fused"])
def test_a_difference_above_tolerance_is_found(check: ModuleType, tmp_path: Path, key: str):
    value = reference(key).copy()
    value[np.unravel_index(np.abs(value).argmax(), value.shape)] *= 1 + 1e-5
    assert disagreeing(check, altered(tmp_path, **{key: value})) == {key}


def test_masks_must_agree_exactly(check: ModuleType, tmp_path: Path):
    mask = reference("pseudo_mask").copy()
    mask[0, 3, 4] = (mask[0, 3, 4] + 1) % 3
    assert disagreeing(check, altered(tmp_path, pseudo_mask=mask)) == {"pseudo_mask"}


def test_a_value_that_is_not_finite_agrees_with_nothing(check: ModuleType, tmp_path: Path):
    path = altered(tmp_path, loss_fg=np.float64("nan"))
    assert disagreeing(check, path) == {"loss_fg"}


def test_the_exit_code_tells_agreement_from_difference_from_a_bad_file(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert check.main([str(path) for path in SMALL]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {key} " in out for key in ("grad_cams", "fused", "lr_warmup2_max10"))

    assert check.main([str(SMALL[0]), str(altered(tmp_path, loss_fg=np.float64(1)))]) == 1
    assert "loss_fg" in next(s for s in capsys.readouterr().out.splitlines() if "DIFFERS" in s)

    assert check.main([]) == 2
    assert check.main([str(tmp_path / "nowhere.npz")]) == 2
    assert "nowhere.npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad_cams": None}, "grad_cams is missing"),
        ({"colour": np.zeros(3)}, "colour is unknown"),
        ({"loss_fg": np.array("high")}, "loss_fg is not numeric"),
        ({"cams": np.zeros((2, 6, 5))}, "cams has the shape"),
        ({"prototypes": np.zeros((4, 6))}, "prototypes has the shape"),
        ({"k_list": np.array([1, 2, 2])}, "do not fit together"),
        ({"cluster_init_rows": np.array([0, 24])}, "do not fit together"),
        ({"image_labels": np.full((2, 3), np.nan)}, "not finite"),
        ({"fused": np.float32(0)}, "do not fit together"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_file_of_other_arrays_is_refused(
    check: ModuleType,
    tmp_path: Path,
    changes: dict[str, object],
    message: str,
    capsys: pytest.CaptureFixture[str],
):
    assert check.main([str(altered(tmp_path, **changes))]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x04N.", b"k_list\n3"])
def test_a_file_that_is_no_archive_of_arrays_is_refused(
    check: ModuleType, tmp_path: Path, content: bytes
):
    path = tmp_path / "reference.npz"
    path.write_bytes(content)
    assert check.main([str(path)]) == 2


def test_a_pickle_within_an_archive_is_not_opened(check: ModuleType, tmp_path: Path):
    path = altered(tmp_path, logits=np.array([print, None], dtype=object))
    with pytest.raises(check.BadFileError):
        check.read_reference(path)


def test_a_truncated_file_is_refused(check: ModuleType, tmp_path: Path):
    whole = SMALL[0].read_bytes()
    path = tmp_path / "truncated.npz"
    path.write_bytes(whole[: len(whole) // 2])
    assert check.main([str(path)]) == 2
