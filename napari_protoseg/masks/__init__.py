"""From prototype maps to class maps to masks, by a saved recipe."""
