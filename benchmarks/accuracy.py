"""How good masks from image-level labels are: named configurations, several seeds.

    accuracy.py lung|colon|generated [--seeds 0,1,2] [--only "ours;plain CAM"] [--fold 0|1|2]
                [--rate 3e-5] [--out FOLDER] [--masks FOLDER]
    accuracy.py report [--out FOLDER]
    accuracy.py sheets --masks FOLDER [--seeds 0]

Makes tiles, real ones by the protocol of the data's README, trains each configuration on the
labels of the `train` tiles, and measures it on the `val` tiles. Colon trains on a fixed subset of
1,000 tiles. Each run is written to ``FOLDER/<tissue>/<configuration>, seed N.json`` as soon as it
is measured, and is not made again. With ``--fold`` a third of the images to train on is measured
on instead of those of `val`, for choices to be made. With ``--rate`` every backbone learns at that
rate instead of its own. ``--masks`` keeps the masks with given labels.

``report`` sets what is there as tables into ``docs/benchmarks.md``; ``sheets`` draws contact
sheets of kept masks beside them, which hold images of the data, so that they are not to be passed
on where the data is not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from accuracy_report import write_report
from accuracy_runs import opened_runs
from accuracy_sheets import write_sheets
from configurations import CHOSEN_RATES
from tissue import FOLDS, TISSUES, fold_of_training, make_tiles

RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*TISSUES, "report", "sheets"])
    parser.add_argument("--seeds", default="0", help="comma separated")
    parser.add_argument("--only", help="predictions, separated by semicolons; all without it")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="of the training images")
    parser.add_argument("--rate", type=float, help="of every backbone, instead of its own")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    parser.add_argument("--masks", type=Path, help="folder of masks to keep")
    options = parser.parse_args()
    if options.what == "report":
        write_report(options.out, DOCUMENT)
        return 0
    data = os.environ.get("PROTOSEG_DATA", "")
    if not data and options.what != "generated":
        print("Skipped: set PROTOSEG_DATA to the folder of the real tissue.", file=sys.stderr)
        return 0
    if options.what == "sheets":
        if options.masks is None:
            parser.error("name the folder of the masks: --masks FOLDER")
        seed = int(options.seeds.split(",")[0])
        print(*write_sheets(Path(data) / "data", options.masks, seed), sep="\n")
        return 0
    suffix = "" if options.fold is None else f", fold {options.fold}"
    if options.rate is not None:
        suffix += f", rate {options.rate:g}"
    results: Path = options.out / f"{options.what}{suffix}"
    results.mkdir(parents=True, exist_ok=True)
    masks = None if options.masks is None else options.masks / results.name
    only = None if options.only is None else {name.strip() for name in options.only.split(";")}

    def missing(name: str) -> bool:
        wanted = only is None or name.split(", seed ")[0] in only
        return wanted and not (results / f"{name}.json").exists()

    def rate_of(name: str) -> float | None:
        return options.rate or CHOSEN_RATES.get(name, {}).get(options.what)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for split in ("train", "val") if options.fold is None else ("train",):
            make_tiles(Path(data) / "data", options.what, split, folder / split)
        if options.fold is not None:
            fold_of_training(folder, options.fold)
        for seed in map(int, options.seeds.split(",")):
            tissue = TISSUES[options.what]
            with opened_runs(tissue, folder, seed, rate_of, masks) as runs:
                for name in filter(missing, runs):
                    print(name, file=sys.stderr, flush=True)
                    partial = results / f"{name}.part"
                    partial.write_text(json.dumps(runs[name]()))
                    partial.rename(results / f"{name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
