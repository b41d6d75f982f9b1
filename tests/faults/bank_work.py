"""Banks are built, and prototypes of them are muted and heard again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.bank.codec import read_bank
from napari_protoseg.events import finish
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.project.folder import Project

BASE = "banked"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
CLUSTERS = (2, 1, 2)


def work(workspace: Path, acknowledge: Callable[[object], None]) -> None:
    with Project.open(workspace / "project") as project:
        for clusters in CLUSTERS:
            request = BankRequest(config=BankConfig(clusters=clusters))
            built = finish(
                build_project_bank(project, request, device=torch.device("cpu"), now=NOW)
            )
            assert built is not None
            acknowledge(f"bank {built.version}")
            for muted in ({0}, {0, 3}, {3}, set()) * 2:
                project.set_muted_prototypes(built.version, muted)
                acknowledge(f"{muted} of {built.version}")
            project.set_muted_prototypes(built.version, {built.version})
            acknowledge(f"the last of {built.version}")


def state(workspace: Path) -> dict[str, object]:
    with Project.open(workspace / "project") as project:
        banks = {}
        for row in project.banks():
            bank = read_bank(row.path)
            content = hashlib.sha256(bank.centres.tobytes()).hexdigest()
            banks[row.path.name] = [content, sorted(project.muted_prototypes(row.version))]
        return banks
