"""Whatever is done in whatever order, and however it ends: the mask is that of a plain model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    Origin,
    PredictedMask,
    Project,
)
from napari_protoseg.project.edits import NewStep
from napari_protoseg.project.lock import LOCK
from napari_protoseg.review.journal import Journal, recover
from napari_protoseg.review.recorder import Recorder
from napari_protoseg.review.recorder_events import (
    MaskMoved,
    RecorderEvent,
)
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
SHAPE = (4, 5)
PEOPLE = ("Ada", "Bob")
NOBODY, MODEL, IMPORTED, PROPAGATED = "", "model", "imported", "propagated"
ORIGINS = {
    NOBODY: Origin.NONE,
    MODEL: Origin.MODEL,
    IMPORTED: Origin.IMPORTED,
    PROPAGATED: Origin.PROPAGATED,
}

State = tuple[tuple[tuple[int, str], ...], ...]
"""Class and setter of each pixel, in rows."""

Place = tuple[int, int, int, int]
"""Row, column, height and width of a rectangle."""

Gone = tuple[tuple[int, int], ...]
"""Classes that are gone, in order, each with the one that it was merged into, or 0."""

masks = st.lists(st.integers(0, 3), min_size=20, max_size=20).map(
    lambda values: np.array(values, dtype=np.uint8).reshape(SHAPE)
)
places = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
people = st.sampled_from(PEOPLE)
goings = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=2, unique_by=lambda going: going[0]
).map(lambda goings: tuple((gone, heir if heir != gone else 0) for gone, heir in goings))


@dataclass
class Plain:
    """The mask of one image as nested tuples, with every state that it was in."""

    states: list[State] = field(default_factory=lambda: [((((0, NOBODY),) * 5),) * 4])
    place: int = 0

    @property
    def now(self) -> State:
        return self.states[self.place]

    def become(self, state: State) -> bool:
        if state == self.now:
            return False
        self.states[self.place + 1 :] = [state]
        self.place += 1
        return True

    def taken(self, mask: np.ndarray, who: str, kept: tuple[str, ...], *, whole: bool) -> State:
        """Return the state with a mask in it, but for the pixels of those who keep them."""
        return tuple(
            tuple(
                old
                if old[1] in kept or (new == 0 and not whole)
                else (int(new), who if new else NOBODY)
                for old, new in zip(old_row, new_row, strict=True)
            )
            for old_row, new_row in zip(self.now, mask, strict=True)
        )

    def painted(self, drawn: np.ndarray, seen: State, who: str) -> State:
        return tuple(
            tuple(
                (int(new), who) if new != was[0] else old
                for old, was, new in zip(old_row, seen_row, new_row, strict=True)
            )
            for old_row, seen_row, new_row in zip(self.now, seen, drawn, strict=True)
        )

    def released(self, where: np.ndarray, seen: State, who: str, gone: Gone = ()) -> State:
        """Return the state with what was seen of a person given back, by classes gone then."""
        return tuple(
            tuple(
                (old[0], MODEL if old[0] else NOBODY)
                if given and was[1] in (who, IMPORTED) and shown(old, gone) == was
                else old
                for old, was, given in zip(old_row, seen_row, given_row, strict=True)
            )
            for old_row, seen_row, given_row in zip(self.now, seen, where, strict=True)
        )

    def seen(self, gone: Gone) -> State:
        return tuple(tuple(shown(pixel, gone) for pixel in row) for row in self.now)


class Journaled(RuleBasedStateMachine):
    """Two images, one of them open at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="journal-"))
        self.copies = 0
        self.minutes = 0
        self.told: list[RecorderEvent] = []

    @initialize()
    def begin(self) -> None:
        folder = self.root / "project"
        self.project = Project.create(folder, SCHEMA, created=NOW)
        self.project.add_images(
            ImageRecord(
                path=folder / f"{k}.png", content_hash=str(k), width=5, height=4, label=(1, 1, 1)
            )
            for k in range(2)
        )
        for person in PEOPLE:
            self.project.introduce(person)
        self.plain = {1: Plain(), 2: Plain()}
        self.recorder = Recorder(self.project, self.told.append)
        for image in (2, 1):  # what a job changes of an image can be undone once it was open
            self.open(image)

    def teardown(self) -> None:
        if hasattr(self, "edited"):
            while self.plain[self.image].place:
                self.undo()
                self.the_mask_is_that_of_the_model()
            assert self.edited.undo(now=NOW) is None
            self.the_mask_on_disk_is_as_well()
            self.recorder.close()
            self.project.close()
        shutil.rmtree(self.root)

    def open(self, image: int) -> None:
        self.image = image
        self.edited, _ = Journal(self.project, image).open()

    def now(self) -> datetime:
        self.minutes += 1
        return NOW + timedelta(minutes=self.minutes)

    def record(self, step: NewStep | None, changed: bool) -> None:
        assert (step is not None) == changed
        if step is not None:
            self.recorder.record(self.image, step)

    def machine(self, state: State, kept: tuple[str, ...], image: int = 0) -> bool:
        """Let the model become what a machine has made; what is protected stays."""
        plain = self.plain[image or self.image]
        for old_row, new_row in zip(plain.now, state, strict=True):
            for old, new in zip(old_row, new_row, strict=True):
                assert old[1] not in kept or old == new
        return plain.become(state)

    @contextmanager
    def a_job(self, *, elsewhere: bool) -> Iterator[Project]:
        """Yield the project to a job: as it is open here, or opened once more beside it."""
        if not elsewhere:
            yield self.project
            return
        with Project.open(self.project.folder) as other:
            assert not other.is_read_only
            yield other

    def drawn(self, place: Place, value: int) -> np.ndarray:
        return np.where(within(place), np.uint8(value), self.edited.mask)

    @rule(place=places, value=st.integers(0, 3), author=people, cut=st.booleans())
    def paint(self, place: Place, value: int, author: str, cut: bool) -> None:
        drawn, plain = self.drawn(place, value), self.plain[self.image]
        row, column, height, width = place
        block = (slice(row, row + height), slice(column, column + width)) if cut else None
        step = self.edited.stroke(drawn, author=author, now=self.now(), block=block)
        self.record(step, plain.become(plain.painted(drawn, plain.now, author)))

    @rule(mask=masks)
    def predict(self, mask: np.ndarray) -> None:
        plain = self.plain[self.image]
        predicted = PredictedMask(self.image, mask, np.full(SHAPE, 0.25, np.float16))
        step = self.edited.enter_prediction(predicted, self.source(), now=self.now())
        kept = (*PEOPLE, IMPORTED)
        self.record(step, self.machine(plain.taken(mask, MODEL, kept, whole=True), kept))

    @rule(mask=masks)
    def import_mask(self, mask: np.ndarray) -> None:
        state = self.plain[self.image].taken(mask, IMPORTED, PEOPLE, whole=False)
        step = self.edited.import_mask(mask, author="Ada", now=self.now())
        self.record(step, self.machine(state, PEOPLE))

    @rule(mask=masks)
    def propagate(self, mask: np.ndarray) -> None:
        kept = (*PEOPLE, IMPORTED)
        state = self.plain[self.image].taken(mask, PROPAGATED, kept, whole=False)
        step = self.edited.propagate(mask, author="Ada", now=self.now())
        self.record(step, self.machine(state, kept))

    @rule(place=places, author=people)
    def release(self, place: Place, author: str) -> None:
        plain, where = self.plain[self.image], within(place)
        step = self.edited.release(where, author=author, now=self.now())
        self.record(step, plain.become(plain.released(where, plain.now, author)))

    @rule()
    def undo(self) -> None:
        plain = self.plain[self.image]
        can = plain.place > 0
        plain.place -= can
        self.record(self.edited.undo(now=self.now()), can)

    @rule()
    def redo(self) -> None:
        plain = self.plain[self.image]
        can = plain.place + 1 < len(plain.states)
        plain.place += can
        self.record(self.edited.redo(now=self.now()), can)

    @rule()
    def fold(self) -> None:
        self.recorder.fold(self.image)

    @rule(fold=st.booleans())
    def switch_image(self, fold: bool) -> None:
        if fold:
            self.recorder.fold(self.image)
        self.recorder.flush()
        self.open(3 - self.image)

    @rule(fold=st.booleans())
    def reopen(self, fold: bool) -> None:
        if fold:
            self.recorder.fold(self.image)
        self.recorder.close()
        self.project.close()
        self.enter(self.project.folder)

    @rule()
    def killed(self) -> None:
        """Go on with what a kill would leave: a copy of the files as they are."""
        self.recorder.flush()
        self.copies += 1
        copy = self.root / f"copy {self.copies}"
        # Without the lock: that of a process that was killed is nobody's.
        shutil.copytree(self.project.folder, copy, ignore=shutil.ignore_patterns(LOCK))
        assert self.recorder.abandon() == ()
        self.project.close()
        self.enter(copy)

    def enter(self, folder: Path) -> None:
        self.project = Project.open(folder)
        unfolded = self.project.unfolded_images()
        recovered = recover(self.project).recovered
        assert [found.image_id for found in recovered] == unfolded
        assert self.project.unfolded_images() == []
        self.recorder = Recorder(self.project, self.told.append)
        self.open(self.image)

    def source(self) -> MaskSource:
        return MaskSource(
            round_id=None, label_condition="given", recipe_json="{}", created=self.now()
        )

    @rule(mask=masks, elsewhere=st.booleans(), images=st.sampled_from(((1,), (2,), (1, 2))))
    def a_job_stores_predictions(
        self, mask: np.ndarray, elsewhere: bool, images: tuple[int, ...]
    ) -> None:
        self.recorder.flush()
        sure = np.full(SHAPE, 0.5, np.float16)
        with self.a_job(elsewhere=elsewhere) as project:
            project.write_masks([PredictedMask(k, mask, sure) for k in images], self.source())
        kept = (*PEOPLE, IMPORTED)
        for image in images:
            self.machine(self.plain[image].taken(mask, MODEL, kept, whole=True), kept, image)
        self.open(self.image)

    @rule(mask=masks, elsewhere=st.booleans())
    def a_job_imports_a_mask(self, mask: np.ndarray, elsewhere: bool) -> None:
        self.recorder.flush()
        with self.a_job(elsewhere=elsewhere) as project:
            project.store_imports({self.image: mask}, person="Bob", now=self.now())
        state = self.plain[self.image].taken(mask, IMPORTED, PEOPLE, whole=False)
        self.machine(state, PEOPLE)
        self.open(self.image)

    @rule(
        mask=masks,
        by=st.sampled_from((MODEL, "Bob", NOBODY)),
        place=places,
        value=st.integers(0, 3),
        deed=st.sampled_from(("stroke", "release", "undo")),
        elsewhere=st.booleans(),
        gone=goings,
        later=goings,
        back=st.integers(0, 2),
        fold=st.booleans(),
    )
    def a_person_works_before_they_see_what_others_have_done(
        self,
        mask: np.ndarray,
        by: str,
        place: Place,
        value: int,
        deed: str,
        elsewhere: bool,
        gone: Gone,
        later: Gone,
        back: int,
        fold: bool,
    ) -> None:
        """Others draw or predict meanwhile, and classes go and come back, before and after that."""
        plain = self.plain[self.image]
        self.recorder.flush()
        self.told.clear()
        gone = self.take_away(gone, ())
        self.open(self.image)
        seen = plain.seen(gone)
        mask, moved = living(mask, gone), False
        with self.a_job(elsewhere=elsewhere) as project:
            if by == MODEL:
                predicted = PredictedMask(self.image, mask, np.full(SHAPE, 0.5, np.float16))
                project.write_mask(predicted, self.source())
                kept = (*PEOPLE, IMPORTED)
                moved = self.machine(plain.taken(mask, MODEL, kept, whole=True), kept)
            elif by:
                journal = Journal(project, self.image)
                theirs, _ = journal.open()
                step = theirs.stroke(mask, author=by, now=self.now())
                if step is not None:
                    journal.append([step])
                moved = plain.become(plain.painted(mask, seen, by))
        left = gone[: len(gone) - back] if back else gone
        for _ in gone[len(left) :]:  # while the person's step waits
            self.project.restore_class(created=NOW)
        now_gone = self.take_away(later, left)
        match deed:
            case "stroke":
                drawn = living(self.drawn(place, value), gone)
                step = self.edited.stroke(drawn, author="Ada", now=self.now())
                plain.become(plain.painted(drawn, seen, "Ada"))
            case "release":
                step = self.edited.release(within(place), author="Ada", now=self.now())
                plain.become(plain.released(within(place), seen, "Ada", gone))
            case _:
                step = self.edited.undo(now=self.now())
                if not moved:
                    plain.place -= step is not None
                # else it is not the last edit any more: what they undo stays
        if step is not None:
            self.recorder.record(self.image, step)
            self.recorder.flush()
            others = moved or (deed != "undo" and heirs_of(gone) != heirs_of(now_gone))
            assert self.told == [MaskMoved(self.image)] * others
        if fold:
            self.project.fold_journal(self.image)
        for _ in now_gone:
            self.project.restore_class(created=NOW)
        self.open(self.image)

    def take_away(self, goings: Gone, gone: Gone) -> Gone:
        """Let classes go that are there, but for the last; return all that are gone then."""
        for going, heir in goings:
            if len(gone) < 2 and going not in dict(gone) and heir not in dict(gone):
                self.project.remove_class(going, heir or None, created=NOW)
                gone = (*gone, (going, heir))
        return gone

    @rule(gone=st.integers(1, 3), heir=st.integers(0, 3), also=st.booleans())
    def a_class_goes_and_comes_back(self, gone: int, heir: int, also: bool) -> None:
        """While it is gone its pixels are another's, or unlabelled; then all is as it was."""
        self.recorder.flush()
        into = heir if heir != gone else 0
        self.project.remove_class(gone, into or None, created=self.now())
        if also:  # as after a kill: what was acknowledged is folded while the class is gone
            recover(self.project)
        self.open(self.image)
        seen = self.edited.mask.tolist()
        now = self.plain[self.image].now
        assert seen == [[into if pixel[0] == gone else pixel[0] for pixel in row] for row in now]
        self.project.restore_class(created=self.now())
        self.open(self.image)

    @invariant()
    def the_mask_is_that_of_the_model(self) -> None:
        if hasattr(self, "edited"):
            assert_state(self.edited.mask, self.edited.setters, self.plain[self.image].now, self)
            plain = self.plain[self.image]
            assert (self.edited.next_undo is not None) == (plain.place > 0)
            assert (self.edited.next_redo is not None) == (plain.place + 1 < len(plain.states))

    @invariant()
    def origins_agree_with_the_mask(self) -> None:
        if hasattr(self, "edited"):
            origins, mask = self.edited.origins, self.edited.mask
            assert not mask[origins == Origin.NONE].any()
            for origin in (Origin.MODEL, Origin.IMPORTED, Origin.PROPAGATED):
                assert mask[origins == origin].all()

    @precondition(lambda self: hasattr(self, "edited"))
    @rule()
    def the_mask_on_disk_is_as_well(self) -> None:
        self.recorder.flush()
        for image, plain in self.plain.items():
            stored = self.project.read_mask(image)
            if stored is None:
                assert plain.now == Plain().now
                continue
            assert_state(stored.mask, stored.setters, plain.now, self)
            assert np.all(stored.confidence[stored.is_protected] == 1)
            assert np.all(stored.confidence[~stored.is_protected] <= 0.5)


def heirs_of(gone: Gone) -> dict[int, int]:
    """Return what stands in the place of each class that is gone, in the end."""
    heirs = dict(gone)
    return {going: heirs.get(heir, heir) for going, heir in gone}


def shown(pixel: tuple[int, str], gone: Gone) -> tuple[int, str]:
    """Return a pixel as it is seen while classes are gone."""
    class_id = heirs_of(gone).get(pixel[0], pixel[0])
    is_free = pixel[0] and not class_id and pixel[1] in (MODEL, PROPAGATED)
    return class_id, NOBODY if is_free else pixel[1]


def living(mask: np.ndarray, gone: Gone) -> np.ndarray:
    """Return a mask with none of the classes that are gone."""
    return np.where(np.isin(mask, list(dict(gone))), np.uint8(0), mask)


def within(place: Place) -> np.ndarray:
    """Return where a rectangle is."""
    row, column, height, width = place
    where = np.zeros(SHAPE, np.bool_)
    where[row : row + height, column : column + width] = True
    return where


def assert_state(mask: np.ndarray, setters: np.ndarray, state: State, machine: Journaled) -> None:
    codes = ORIGINS | {name: machine.project.introduce(name) for name in PEOPLE}
    assert mask.tolist() == [[pixel[0] for pixel in row] for row in state]
    assert setters.tolist() == [[codes[pixel[1]] for pixel in row] for row in state]


def begun(examples: int) -> type:
    """Return the test of so many sequences."""
    case = type(f"{examples}Sequences", (Journaled.TestCase,), {})
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return case


TestAnySequence = begun(15)
TestManySequences = pytest.mark.slow(pytest.mark.timeout(1800)(begun(200)))
