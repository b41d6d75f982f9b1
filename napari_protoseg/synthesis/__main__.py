"""Write the sample data from a terminal: ``python -m napari_protoseg.synthesis OUT``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from napari_protoseg.errors import ProtosegError
from napari_protoseg.events import Progress
from napari_protoseg.synthesis.sample import SAMPLE_SEED, write_sample_data


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after an error that was told."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_protoseg.synthesis",
        description="Write synthetic tissue with labels and masks to a folder.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or an empty folder")
    parser.add_argument("--seed", type=int, default=SAMPLE_SEED, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        for event in write_sample_data(options.out, seed=options.seed):
            if isinstance(event, Progress):
                sys.stderr.write(f"\r{event.stage}: {event.done}/{event.total}")
        sys.stderr.write("\n")
    except ProtosegError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
