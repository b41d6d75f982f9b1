"""The job that reads a folder of images with their image-level labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import ImageError, LabelError, Stopped
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.images.reading import ImageInfo, inspect_image, list_images
from napari_protoseg.labels.names import NamePattern, pixel_size, shown
from napari_protoseg.labels.records import LabelledImage, Presence
from napari_protoseg.labels.report import LabelReport, LabelSource, UnreadableImage, report_on
from napari_protoseg.labels.source import FoundLabels, find_labels
from napari_protoseg.schema import ClassSchema

_BATCH = 32


@dataclass(frozen=True)
class LabelReading:
    """Readable images with their labels, in the order of their paths.

    Parameters
    ----------
    images
        At least one; each content once, unless files of equal content were wanted, too.
    schema
        The classes of the labels, in their order.
    report
        What was found, and what was left out.
    """

    images: tuple[LabelledImage, ...]
    schema: ClassSchema
    report: LabelReport


@dataclass(frozen=True)
class _Facts:
    """Where the case and the pixel size of an image come from."""

    case: NamePattern | None
    pixel_size: NamePattern | float | None
    found: FoundLabels

    def labelled(self, path: Path, info: ImageInfo) -> LabelledImage:
        row = self.found.rows.get(path)
        unknown = (int(Presence.UNKNOWN),) * len(self.found.schema.classes)
        return LabelledImage(
            path=path,
            label=self.found.labels.get(path, unknown),
            case=(self.case and self.case.found_in(path)) or (row and row.case) or None,
            micrometres_per_pixel=(
                self._given_pixel_size(path)
                or (row and row.micrometres_per_pixel)
                or info.micrometres_per_pixel
            ),
            split=row.split if row else None,
            info=info,
        )

    def _given_pixel_size(self, path: Path) -> float | None:
        if not isinstance(self.pixel_size, NamePattern):
            return self.pixel_size
        text = self.pixel_size.found_in(path)
        return pixel_size(text, shown(path)) if text else None


def read_labels(
    images: Path,
    *,
    labels: Path | None = None,
    classes: Sequence[str] | None = None,
    schema: ClassSchema | None = None,
    earlier: Sequence[ClassSchema] = (),
    case_pattern: str | None = None,
    micrometres_per_pixel: float | str | None = None,
    labelled: bool = True,
    distinct: bool = True,
    workers: int = 4,
) -> Job[LabelReading]:
    """Read every image below a folder whole, with its label, and report what was found.

    Labels stand in a table, if one is given; else in brackets in the file names, if one has
    a bracket; else in the names of first-level folders, if they hold all images and are the
    classes; else there are none. Where a table is given, a bracket with a digit for each
    class must say the same.

    Parameters
    ----------
    images
        Searched with all its folders.
    labels
        A table, see `napari_protoseg.labels.tables.read_table`.
    classes
        Names in the order of the digits in brackets. Not needed with a table or class folders.
    schema
        The classes of an existing project, in place of `classes`.
    earlier
        States of `schema` that had other classes, the newest first: labels in brackets may be of
        one of these, where no two had as many, and leave the classes that came later unknown.
    case_pattern
        Regular expression over the file name; the group called ``case``, else the first, is
        the case. A table's column counts where it finds nothing.
    micrometres_per_pixel
        A number for all images, or a regular expression over the file name whose group called
        ``mpp``, else the first, is one, such as ``MPP-([0-9.]+)``. Where it finds nothing, a
        table's column counts, then the resolution in the file.
    labelled
        Whether to look for labels where there is no table; if not, `schema` is needed, and whatever
        names and folders may say, all classes are unknown.
    distinct
        Whether to keep but the first of several files of equal content; if not, each is an image.
    workers
        Threads that read images.

    Yields
    ------
    Progress
        After every few images. In answer to `Request.STOP` the job raises `Stopped`, since
        half a folder is no result.

    Returns
    -------
    The reading; files that cannot be read as images are left out and stand in its report.

    Raises
    ------
    LabelError
        Labels are malformed, ambiguous or contradict each other; files of equal content have
        different labels; a pattern is malformed.
    Stopped
        It was asked to stop.
    ImageError
        The folder is missing, or holds no image that can be read.
    SchemaError
        The classes' names are empty or stand twice.
    StorageError
        A folder or the table cannot be read.
    """
    case = (
        NamePattern.compiled(case_pattern, option="case pattern", group="case")
        if case_pattern is not None
        else None
    )
    size = _pixel_size_option(micrometres_per_pixel)
    wanted = _wanted_schema(classes, schema)
    paths = list_images(images)
    unreadable = [
        UnreadableImage(
            file=_escaped(path.relative_to(images)),
            reason="its name is not Unicode",
            remedy="Rename it.",
        )
        for path in paths
        if not _is_unicode(path.relative_to(images))
    ]
    named = [path for path in paths if _is_unicode(path.relative_to(images))]
    if not named:
        raise ImageError(
            "no image in this folder",
            where=shown(images),
            remedy="Give a folder that holds PNG, JPEG, TIFF, BMP or WebP images.",
        )
    found = (
        find_labels(images, named, labels, wanted, earlier)
        if labelled or labels is not None or wanted is None
        else FoundLabels(LabelSource.NONE, wanted)
    )
    facts = _Facts(case, size, found)

    usable: list[LabelledImage] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(named), _BATCH):
            request = yield Progress("Reading images", start, len(named))
            if request is Request.STOP:
                raise Stopped(
                    f"stopped after {start} of {len(named)} images",
                    where=shown(images),
                    remedy="Nothing was kept; read the labels again.",
                )
            batch = named[start : start + _BATCH]
            for path, info in zip(batch, pool.map(_inspected, batch), strict=True):
                if isinstance(info, ImageInfo):
                    usable.append(facts.labelled(path, info))
                else:
                    file = path.relative_to(images).as_posix()
                    unreadable.append(
                        UnreadableImage(file=file, reason=info.what, remedy=info.remedy)
                    )
    yield Progress("Reading images", len(named), len(named))

    if not usable:
        raise ImageError(
            f"none of {len(paths)} images can be read; "
            f"the first, {shown(unreadable[0].file)}: {unreadable[0].reason}",
            where=shown(images),
            remedy="The images have to be 8-bit RGB files of 32 pixels or more on a side.",
        )
    groups = _equal_content(usable)
    if not distinct:
        groups = [[image] for image in usable]
    kept = [group[0] for group in groups]
    return LabelReading(
        images=tuple(kept),
        schema=facts.found.schema,
        report=report_on(
            kept,
            [_relative(image, images) for image in kept],
            facts.found.schema,
            source=facts.found.source,
            found=len(paths),
            case_expected=case is not None or facts.found.has_cases,
            labels_without_images=facts.found.without_image,
            later_classes=facts.found.later_classes,
            unreadable=unreadable,
            duplicates=[
                tuple(_relative(image, images) for image in group)
                for group in groups
                if len(group) > 1
            ],
        ),
    )


def _pixel_size_option(given: float | str | None) -> NamePattern | float | None:
    """Return a pattern, or the number that `given` is or spells."""
    option = "micrometres per pixel"
    if given is None:
        return None
    if isinstance(given, str):
        try:
            float(given)
        except ValueError:
            return NamePattern.compiled(given, option=option, group="mpp")
    return pixel_size(str(given), option)


def _wanted_schema(classes: Sequence[str] | None, schema: ClassSchema | None) -> ClassSchema | None:
    if schema is None:
        return ClassSchema.from_names(classes) if classes is not None else None
    if classes is not None and tuple(classes) != schema.names:
        raise LabelError(
            f"the classes {', '.join(classes)} are not those of the schema",
            where="classes",
            remedy=f"Leave them out, or give: {', '.join(schema.names)}.",
        )
    return schema


def _is_unicode(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(path: Path) -> str:
    """Return a name that is no Unicode with its odd bytes as surrogate escapes."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _relative(image: LabelledImage, images: Path) -> str:
    return image.path.relative_to(images).as_posix()


def _inspected(path: Path) -> ImageInfo | ImageError:
    try:
        return inspect_image(path)
    except ImageError as error:
        return error


def _equal_content(usable: Sequence[LabelledImage]) -> list[list[LabelledImage]]:
    """Group images by content, in order of the first of each.

    Raises
    ------
    LabelError
        Two images of equal content have different labels.
    """
    groups: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in usable:
        first = next(iter(groups[image.info.content_hash]), image)
        if image.label != first.label:
            raise LabelError(
                f"the same image as {shown(first.path)}, with another label: {list(image.label)} "
                f"here, {list(first.label)} there",
                where=shown(image.path),
                remedy="Remove the wrong one; an image that holds both classes needs one label "
                "with both.",
            )
        groups[image.info.content_hash].append(image)
    return list(groups.values())
