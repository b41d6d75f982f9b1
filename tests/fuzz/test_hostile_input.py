"""Every reader, given hostile input, reads it or refuses it by name: soon, and within its means."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fuzzed_reader import USUAL_SHARE

HERE = Path(__file__).parent
READERS = tuple(sorted(path.stem.removesuffix("_cases") for path in HERE.glob("*_cases.py")))
LEAST_BRANCHES = 0.9
_IN_MEMORY = Path("/dev/shm")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("reader", READERS)
def test_the_reader_stands_hostile_input(reader: str, say) -> None:
    cases = cases_of(reader)
    counted, failures = ran(reader, 0, cases, USUAL_SHARE)
    say(f"fuzz cases of {reader}", counted)
    assert not failures, told(failures)
    assert counted == len(range(0, cases, USUAL_SHARE))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", READERS)
def test_the_reader_stands_all_of_it(reader: str, say) -> None:
    cases = cases_of(reader)
    bounds = [cases * part // 8 for part in range(9)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(lambda part: ran(reader, *part), itertools.pairwise(bounds)))
    failures = [failure for _, found in parts for failure in found]
    counted = sum(count for count, _ in parts)
    say(f"all fuzz cases of {reader}", counted)
    assert not failures, told(failures)
    assert counted == cases


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", READERS)
def test_the_cases_reach_the_branches_of_the_reader(reader: str, tmp_path: Path, say) -> None:
    report = tmp_path / "branches.json"
    ran(reader, 0, cases_of(reader), 8, "--branches", str(report))
    reached, there, missing = branches(reader, report)
    say(f"branches of {reader}", f"{reached} of {there}")
    assert reached >= LEAST_BRANCHES * there, "\n".join(missing)


def cases_of(reader: str) -> int:
    """Return how many cases of a reader there are, without importing what it reads with."""
    line = next(
        line
        for line in (HERE / f"{reader}_cases.py").read_text().splitlines()
        if line.strip().startswith("cases=")
    )
    return int(line.strip().removeprefix("cases=").rstrip(","))


def ran(reader: str, *options: int | str) -> tuple[int, list[dict[str, str]]]:
    """Run cases in a process of their own; return how many there were, and the failures.

    A case that takes the process along is a failure, too, and those after it are run nevertheless.
    """
    first, stop, step, *more = (*options, 1) if len(options) == 2 else options
    failures: list[dict[str, str]] = []
    counted = 0
    while int(first) < int(stop):
        command = [HERE / "case_runner.py", reader, first, stop, step, *more]
        child = subprocess.run(
            [sys.executable, *map(str, command)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=os.environ
            | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
            | ({"TMPDIR": str(_IN_MEMORY)} if _IN_MEMORY.is_dir() else {}),
        )
        said: list[dict[str, Any]] = [json.loads(line) for line in child.stdout.splitlines()]
        failures.extend(line for line in said if "end" in line)
        if said and "cases" in said[-1]:
            return counted + said[-1]["cases"], failures
        begun = list(numbers_in(child.stderr))
        assert begun, child.stderr
        failures.append(
            {"case": f"{reader} {begun[-1]}", "end": "crash", "details": child.stderr[-2000:]}
        )
        counted += len(begun)
        first = begun[-1] + int(step)
    return counted, failures


def numbers_in(text: str) -> Iterator[int]:
    """Yield the numbers that stand alone on a line."""
    return (int(line) for line in text.splitlines() if line.isascii() and line.isdigit())


def told(failures: list[dict[str, str]]) -> str:
    """Say what failed, so that each case can be run again."""
    listed = [
        f"{failure['end']}: python tests/fuzz/case_runner.py {failure['case']} "
        f"{int(failure['case'].split()[1]) + 1}\n{failure['details']}"
        for failure in failures[:5]
    ]
    return "\n".join((f"{len(failures)} cases failed", *listed))


def branches(reader: str, report: Path) -> tuple[int, int, list[str]]:
    """Return how many branches of a reader were reached, how many there are, and which were not."""
    sys.path.insert(0, str(HERE))
    code = importlib.import_module(f"{reader}_cases").READER.code
    files = {
        Path(name).as_posix().partition("napari_protoseg/")[2]: content
        for name, content in json.loads(report.read_text())["files"].items()
    }
    reached = there = 0
    missing = []
    for module, functions in code.items():
        found = files[module.removeprefix("napari_protoseg/")]
        for function in functions or [name for name in found["functions"] if name]:
            measured = found["functions"][function]
            there += measured["summary"]["num_branches"]
            reached += measured["summary"]["covered_branches"]
            missing += [
                f"{module} {function}: line {line} to {to}"
                for line, to in measured["missing_branches"]
            ]
    return reached, there, missing


def main() -> None:
    """Say what branches a report shows: ``python test_hostile_input.py READER REPORT``."""
    reached, there, missing = branches(sys.argv[1], Path(sys.argv[2]))
    print(f"{sys.argv[1]}: {reached} of {there} branches", *missing, sep="\n")


if __name__ == "__main__":
    main()
