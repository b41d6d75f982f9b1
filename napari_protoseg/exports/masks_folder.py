"""Export of many masks as indexed PNGs into one folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.exports.earlier import CLASSES
from napari_protoseg.exports.folder import (
    Exported,
    NamedMask,
    publish,
    staging,
    take_name,
    write_classes,
)
from napari_protoseg.exports.indexed_png import write_indexed_png
from napari_protoseg.schema import UNLABELLED, ClassSchema
from napari_protoseg.storage import write_atomically


def export_png(
    masks: Iterable[NamedMask],
    total: int,
    out: Path,
    schema: ClassSchema,
    documents: Mapping[str, str] = MappingProxyType({}),
    *,
    overwrite: bool = False,
) -> Job[Exported | None]:
    """Write ``<name>.png`` for each mask, values being class ids, and ``classes.json``.

    Parameters
    ----------
    masks
        Taken one at a time.
    total
        Their number, for the progress.
    out
        A new or empty folder; it appears complete or not at all.
    schema
        What the values mean.
    documents
        Text files to write beside the masks, by name.
    overwrite
        Put it in the place of an earlier export in `out`, which goes once the new one is whole.

    Returns
    -------
    What was written, or None when asked to stop, which leaves nothing behind.

    Raises
    ------
    ExportError
        `out` holds something (to overwrite: what no export writes), two masks have one name, or
        a name is no file name.
    StorageError
    """
    taken: set[str] = set()
    with staging(out, overwrite=overwrite) as folder:
        for done, item in enumerate(masks):
            if (yield Progress("Writing masks", done, total)) is Request.STOP:
                return None
            take_name(item.name, taken)
            write_indexed_png(folder / f"{item.name}.png", item.mask, schema)
        write_classes(folder / CLASSES, schema, list(schema.ids), UNLABELLED)
        for name, text in documents.items():
            write_atomically(folder / name, text)
        publish(folder, out, overwrite=overwrite)
    yield Progress("Writing masks", len(taken), len(taken))
    return Exported(out, len(taken))
