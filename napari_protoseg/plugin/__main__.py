"""Start napari with the sample tissue: ``python -m napari_protoseg.plugin``."""

from __future__ import annotations

import napari


def main() -> None:
    """Open the sample and stay until the window is closed."""
    viewer = napari.Viewer(title="ProtoSeg")
    viewer.open_sample("napari-protoseg", "sample_tissue")
    napari.run()


if __name__ == "__main__":
    main()
