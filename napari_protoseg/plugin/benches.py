"""One workbench for each viewer, however many docks show a part of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from napari.utils.notifications import show_error

from napari_protoseg.plugin.canvas import Canvas
from napari_protoseg.plugin.keys import bind_keys, unbind_keys
from napari_protoseg.plugin.quitting import Quitting, going_on
from napari_protoseg.plugin.settings import follow_settings, read_settings
from napari_protoseg.plugin.threads import ThreadRunner
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import Task
from napari_protoseg.workbench.workbench import Workbench


class _Bench:
    """A workbench, its image on the canvas, and how many docks hold it."""

    def __init__(self, viewer: Any) -> None:
        self.workbench = Workbench(Session(ThreadRunner(), read_settings))
        self.canvas = Canvas(viewer, self.workbench)
        self.holders = 0
        self._viewer = viewer
        bind_keys(viewer, self.canvas)
        self._end_following = follow_settings(self.workbench.session.settings_changed.emit)

    def close(self, *, with_viewer: bool) -> None:
        """Save and close; what cannot be saved stays in the viewer, if that stays."""
        self._end_following()
        problem = self.workbench.session.try_to_save()
        is_lost = problem is not None and not with_viewer
        self.canvas.close(with_layers=not with_viewer, keeps_mask=is_lost)
        self.workbench.close()
        unbind_keys(self._viewer)
        if problem is not None and is_lost:
            show_error(
                f"What you have drawn could not be saved: {problem.sentence} "
                "It stays here as a layer, which you can save as a file."
            )


_benches: dict[int, _Bench] = {}
_quitting: list[Quitting] = []
"""One while there is a bench."""


def join(viewer: Any) -> tuple[Workbench, Canvas]:
    """Return the workbench of `viewer` and its canvas, for a dock that will `leave` it again."""
    key = _key(viewer)
    if key not in _benches:
        _benches[key] = _Bench(viewer)
        if not _quitting:
            _quitting.append(Quitting(_flush_all, _close_all))
        _benches[key].workbench.session.task_over.connect(partial(_close_after, key))
    bench = _benches[key]
    bench.holders += 1
    return bench.workbench, bench.canvas


def leave(viewer: Any) -> None:
    """Let go of the workbench; the last one to leave closes it.

    A task that is under way is not ended by that: the workbench stays until its result is handed
    over, so that a training goes on behind a closed dock, and is there again in a new one.
    """
    bench = _benches.get(_key(viewer))
    if bench is None:
        return
    bench.holders -= 1
    session = bench.workbench.session
    if bench.holders == 0 and session.is_busy:
        problem = session.try_to_save()
        if problem is not None:
            show_error(
                f"What you have drawn could not be saved: {problem.sentence} "
                "It is still on the mask; open the workbench again to save it."
            )
    _close_if_unused(_key(viewer))


def workbench_of(viewer: Any) -> Workbench | None:
    """Return the workbench of `viewer` if a dock shows it."""
    bench = _benches.get(_key(viewer))
    return bench.workbench if bench is not None and bench.holders else None


def session_of(viewer: Any) -> Session | None:
    """Return the session of `viewer`, also where a task goes on behind a closed dock."""
    bench = _benches.get(_key(viewer))
    return None if bench is None else bench.workbench.session


def close(viewer: Any) -> None:
    """Close the workbench of a viewer that goes: what runs is stopped, saved and waited for."""
    bench = _benches.pop(_key(viewer), None)
    if bench is not None:
        bench.close(with_viewer=True)
        _rest()


def _flush_all() -> None:
    """Bring to disk what was drawn in any viewer; what cannot be is told there."""
    for bench in _benches.values():
        with going_on():
            bench.workbench.session.attempt(bench.workbench.session.save)


def _close_all() -> None:
    while _benches:
        with going_on():
            _benches.popitem()[1].close(with_viewer=True)
    _quitting.clear()


def _rest() -> None:
    """Watch for the end of the program no longer than there is something to lose."""
    if not _benches and _quitting:
        _quitting.pop().let_go()


def _close_after(key: int, task: Task) -> None:
    """Close a workbench whose docks were all closed before its task was over."""
    if _close_if_unused(key) and task.problem is not None:
        show_error(f"{task.title}: {task.problem.sentence}")


def _close_if_unused(key: int) -> bool:
    """Close a workbench that nobody holds, unless a task is under way; tell whether it was."""
    bench = _benches.get(key)
    if bench is None or bench.holders > 0 or bench.workbench.session.is_busy:
        return False
    del _benches[key]
    bench.close(with_viewer=False)
    _rest()
    return True


def _key(viewer: Any) -> int:
    """Identify a viewer; docks are given a proxy of it, menu commands may have it plain."""
    return id(getattr(viewer, "__wrapped__", viewer))
