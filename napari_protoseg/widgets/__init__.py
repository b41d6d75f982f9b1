"""Docks in napari: they draw the state of the workbench, and pass on what a person wants."""
