"""Reading images and masks, and telling tissue from glass."""
