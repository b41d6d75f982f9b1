from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.brackets import (
    bare_name,
    bracket_label,
    bracket_labels,
    matching_bracket,
)

SEPARATORS = st.sampled_from([" ", "  ", ",", ", ", ""])
STEMS = st.text(st.characters(codec="utf-8", exclude_characters="/\0[]"), max_size=20)


@given(
    label=st.lists(st.integers(0, 1), min_size=1, max_size=12),
    separator=SEPARATORS,
    before=STEMS,
    after=STEMS.filter(lambda text: "." not in text),
)
def test_every_form_of_bracket_gives_its_label_back(
    label: list[int], separator: str, before: str, after: str
) -> None:
    name = f"x{before}[{separator.join(map(str, label))}]{after}.png"
    assert bracket_label(Path(name)) == tuple(label)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("1031280-2300-27920-[1 0 0 1].png", (1, 0, 0, 1)),
        ("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png", (1, 1, 0, 1)),
        ("436219-9328-56427-[1, 1, 0].png", (1, 1, 0)),
        ("case [7] region [0, 1].png", (0, 1)),
        ("no_bracket.png", None),
    ],
)
def test_names_of_public_data_sets_are_understood(name: str, label: tuple[int, ...] | None) -> None:
    assert bracket_label(Path(name)) == label


@pytest.mark.parametrize(
    "content",
    ["", " ", "2", "1 0 2", "1,,0", "1;0", "a", "1 0,1", "-1 0", "\uff11 \uff10", "1.0 0.0"],
)
def test_anything_else_in_the_bracket_is_an_error_that_names_the_file(content: str) -> None:
    with pytest.raises(LabelError, match="which is not a label") as caught:
        bracket_label(Path(f"tile[{content}].png"))
    assert "tile[" in str(caught.value)


def test_unequal_numbers_of_digits_name_a_file_of_each() -> None:
    paths = [Path("a[10].png"), Path("b[110].png"), Path("c.png")]
    with pytest.raises(LabelError, match=r"2 in a\[10\]\.png, 3 in b\[110\]\.png"):
        bracket_labels(paths)


def test_a_bracket_of_another_length_or_content_does_not_match() -> None:
    assert matching_bracket(Path("a[10].png"), 2) == (1, 0)
    assert matching_bracket(Path("a[10].png"), 3) is None
    assert matching_bracket(Path("a[final].png"), 3) is None


def test_the_named_examples_of_real_patches_are_understood(protoseg_data: Path) -> None:
    paths = sorted((protoseg_data / "data" / "lung" / "named_examples").glob("*.png"))
    assert [label for _, label in sorted(bracket_labels(paths).items())] == [
        (0, 1, 0),
        (1, 0, 0),
        (1, 1, 0),
        (0, 0, 1),
    ]


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("case00_012-[1 1 0 0].png", "case00_012"),
        ("TCGA-A7_x0_y512 [1, 0].png", "TCGA-A7_x0_y512"),
        ("12-5[101]-a.png", "12-5-a"),
        ("lesion [left].png", "lesion [left]"),
        ("[1 0].png", "[1 0]"),
        ("plain.name.tif", "plain.name"),
    ],
)
def test_a_name_without_its_label_is_what_tells_it_apart(name: str, bare: str) -> None:
    assert bare_name(Path(name)) == bare
