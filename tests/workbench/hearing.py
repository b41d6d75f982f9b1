"""Keeps what signals say; whoever hears must be kept, since signals hold their slots weakly."""

from __future__ import annotations

from typing import Any

from napari_protoseg.workbench.session import Session


class Heard(list[Any]):
    """What a signal has emitted: a tuple each time."""

    def __init__(self, signal: Any) -> None:
        super().__init__()
        signal.connect(self.hear)

    def hear(self, *args: Any) -> None:
        self.append(args)


class Told(list[str]):
    """What the person was told: sentences said, and problems."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        session.said.connect(self.hear_notice)
        session.went_wrong.connect(self.hear_problem)

    def hear_notice(self, notice: Any) -> None:
        self.append(notice.text)

    def hear_problem(self, problem: Any) -> None:
        self.append(problem.sentence)
