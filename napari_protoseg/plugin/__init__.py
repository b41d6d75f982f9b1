"""What napari's manifest names, and the start of napari with it."""
