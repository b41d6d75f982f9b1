"""What was found when labels were read, as a record and as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import islice

from pydantic import BaseModel, ConfigDict

from napari_protoseg.labels.names import shown
from napari_protoseg.labels.records import Label, LabelledImage, Presence, is_labelled
from napari_protoseg.schema import ClassSchema

_EXAMPLES = 5


class LabelSource(Enum):
    """Where the image-level labels came from."""

    BRACKETS = "brackets in the file names"
    TABLE = "a table"
    FOLDERS = "one folder per class"
    NONE = "nowhere"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassCount(_Record):
    """In how many images a class is present, absent, or unknown."""

    name: str
    present: int
    absent: int
    unknown: int


class Combination(_Record):
    """How many labelled images hold exactly `classes`."""

    classes: tuple[str, ...]
    images: int


class UnreadableImage(_Record):
    """A file left out, why, and what to do about it."""

    file: str
    reason: str
    remedy: str = ""


class LabelReport(_Record):
    """What was found; files are named by their path below the folder of images.

    Parameters
    ----------
    source
        Where the labels came from.
    found
        Number of image files.
    usable
        Number of those that were read, each content once.
    labelled
        Number of usable images with at least one class known.
    classes
        Counts for each class in schema order, over usable images.
    combinations
        Over labelled images, the commonest first.
    images_without_labels
        Usable images of which no class is known.
    labels_without_images
        Rows of a table that belong to no image file.
    unreadable
        Files left out.
    duplicates
        Groups of files of equal content and equal label; the first of each is kept.
    later_classes
        Classes that the labels in the names say nothing of, since they were added later.
    images_without_case
        Images to which a pattern or a column for the case gives none.
    images_without_pixel_size
        Number of usable images whose micrometres per pixel are not known.
    pixel_sizes
        Smallest and largest known, in micrometres per pixel.
    widths, heights
        Smallest and largest, in pixels.
    """

    source: LabelSource
    found: int
    usable: int
    labelled: int
    classes: tuple[ClassCount, ...]
    combinations: tuple[Combination, ...]
    images_without_labels: tuple[str, ...]
    labels_without_images: tuple[str, ...]
    unreadable: tuple[UnreadableImage, ...]
    duplicates: tuple[tuple[str, ...], ...]
    later_classes: tuple[str, ...] = ()
    images_without_case: tuple[str, ...]
    images_without_pixel_size: int
    pixel_sizes: tuple[float, float] | None
    widths: tuple[int, int]
    heights: tuple[int, int]

    def lines(self) -> list[str]:
        """Return the report as sentences for a terminal, names escaped where they need it."""
        return [
            f"{_count(self.found, 'image')} found, {self.usable} usable, {self.labelled} "
            f"labelled from {self.source.value}.",
            f"Size: {_range(self.widths)} pixels wide, {_range(self.heights)} high.",
            self._pixel_size_line(),
            *(
                f"Class {c.name}: present in {c.present}, absent in {c.absent}, "
                f"unknown in {c.unknown}."
                for c in self.classes
            ),
            *(
                f"{' + '.join(c.classes) or 'No class'}: {_count(c.images, 'image')}."
                for c in self.combinations
            ),
            *self.problems(),
        ]

    def problems(self) -> list[str]:
        """Return those of the sentences that tell what is missing, left out or doubled."""
        return [
            *self._older_labels(),
            *_listed("Images without label", self.images_without_labels),
            *_listed("Labels without image", self.labels_without_images),
            *self.left_out(),
            *_listed(
                "Files of equal content, the first of each kept",
                [" = ".join(map(shown, group)) for group in self.duplicates],
                "; ",
            ),
            *_listed("Images without case, each its own", self.images_without_case),
        ]

    def left_out(self) -> list[str]:
        """Name the files left out, and once each what to do about them."""
        entries = [f"{shown(u.file)} ({u.reason})" for u in self.unreadable]
        remedies = dict.fromkeys(u.remedy for u in self.unreadable if u.remedy)
        return [" ".join([line, *remedies]) for line in _listed("Images left out", entries, "; ")]

    def _older_labels(self) -> list[str]:
        if not self.later_classes:
            return []
        digits = len(self.classes) - len(self.later_classes)
        return [
            f"The labels in the names have {_count(digits, 'digit')}, from before "
            f"{', '.join(self.later_classes)} was added: unknown in these images."
        ]

    def _pixel_size_line(self) -> str:
        if self.pixel_sizes is None:
            return "Micrometres per pixel: not known."
        unknown = self.images_without_pixel_size
        rest = f", not known of {_count(unknown, 'image')}" if unknown else ""
        return f"Micrometres per pixel: {_range(self.pixel_sizes)}{rest}."


def report_on(
    images: Sequence[LabelledImage],
    names: Sequence[str],
    schema: ClassSchema,
    *,
    source: LabelSource,
    found: int,
    case_expected: bool,
    labels_without_images: Iterable[str],
    later_classes: tuple[str, ...] = (),
    unreadable: Iterable[UnreadableImage],
    duplicates: Iterable[tuple[str, ...]],
) -> LabelReport:
    """Count what `images`, shown under `names`, hold; the rest is passed on.

    Parameters
    ----------
    images
        The usable ones, at least one.
    names
        The path of each below the folder of images.
    case_expected
        Whether anything was given that should say the case of each image.
    """
    labels = [image.label for image in images]
    known = [size for image in images if (size := image.micrometres_per_pixel) is not None]
    widths = [image.info.width for image in images]
    heights = [image.info.height for image in images]
    return LabelReport(
        source=source,
        found=found,
        usable=len(images),
        labelled=sum(map(is_labelled, labels)),
        classes=tuple(
            _class_count(name, [label[position] for label in labels])
            for position, name in enumerate(schema.names)
        ),
        combinations=_combinations(labels, schema),
        images_without_labels=tuple(
            name for name, label in zip(names, labels, strict=True) if not is_labelled(label)
        ),
        labels_without_images=tuple(labels_without_images),
        unreadable=tuple(unreadable),
        duplicates=tuple(duplicates),
        later_classes=later_classes,
        images_without_case=tuple(
            name
            for name, image in zip(names, images, strict=True)
            if case_expected and image.case is None
        ),
        images_without_pixel_size=len(images) - len(known),
        pixel_sizes=(min(known), max(known)) if known else None,
        widths=(min(widths), max(widths)),
        heights=(min(heights), max(heights)),
    )


def _class_count(name: str, values: Sequence[int]) -> ClassCount:
    counts = Counter(values)
    return ClassCount(
        name=name,
        present=counts[Presence.PRESENT],
        absent=counts[Presence.ABSENT],
        unknown=counts[Presence.UNKNOWN],
    )


def _combinations(labels: Iterable[Label], schema: ClassSchema) -> tuple[Combination, ...]:
    counts = Counter(
        tuple(
            name
            for name, presence in zip(schema.names, label, strict=True)
            if presence == Presence.PRESENT
        )
        for label in labels
        if is_labelled(label)
    )
    return tuple(Combination(classes=c, images=n) for c, n in counts.most_common())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _range(values: tuple[float, float]) -> str:
    low, high = values
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _listed(title: str, entries: Sequence[str], separator: str = ", ") -> list[str]:
    """Return one line that counts `entries` and names the first few, or none without any."""
    if not entries:
        return []
    first = separator.join(shown(entry) for entry in islice(entries, _EXAMPLES))
    rest = f"{separator}and {len(entries) - _EXAMPLES} more" if len(entries) > _EXAMPLES else ""
    return [f"{title} ({len(entries)}): {first}{rest}."]
