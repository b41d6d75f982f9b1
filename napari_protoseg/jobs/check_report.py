"""What a check of a project has looked at and found, for a person and for a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from napari_protoseg.project.records import ImageRecord


class Outcome(Enum):
    """What has become of something that was found."""

    PROBLEM = "problem"
    REPAIRED = "repaired"
    KEPT = "kept"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Parameters
    ----------
    outcome
        A problem that remains, repaired, or left as it is since it does no harm.
    where
        File, image, table, bank or round.
    what
        What was found, and what is lost.
    remedy
        What to do about it, or what was done.
    """

    outcome: Outcome
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.outcome.value}: {self.where}: {self.what}. {self.remedy}"


def place(image: ImageRecord) -> str:
    """Return how a finding names an image."""
    return f"image {image.id} ({image.path})"


@dataclass
class CheckReport:
    """What a check has looked at, and what it has found.

    Parameters
    ----------
    images, masks, banks, rounds
        How many of them were looked at.
    is_complete
        Whether it was not stopped before it had looked at all.
    findings
        In the order in which they were found.
    """

    images: int = 0
    masks: int = 0
    banks: int = 0
    rounds: int = 0
    is_complete: bool = True
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """What remains to be done by a person."""
        return [found for found in self.findings if found.outcome is Outcome.PROBLEM]

    def lines(self) -> list[str]:
        """Return what was found, a line each, then how much was looked at."""
        looked = (
            f"Looked at {self.images} images, {self.masks} masks, {self.banks} banks and "
            f"{self.rounds} rounds of training: "
        )
        count = len(self.problems)
        found = f"{count} problem{'' if count == 1 else 's'}." if count else "all is well."
        return [*map(str, self.findings), looked + found]

    def record(self) -> dict[str, object]:
        """Return the same for a program."""
        return {
            "images": self.images,
            "masks": self.masks,
            "banks": self.banks,
            "rounds": self.rounds,
            "complete": self.is_complete,
            "problems": len(self.problems),
            "findings": [
                {**vars(found), "outcome": found.outcome.value} for found in self.findings
            ],
        }
