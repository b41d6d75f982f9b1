"""The mask of an image between model and person: edits, their journal, and who records them."""
