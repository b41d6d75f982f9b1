"""Reading image-level labels from file names, tables and folders."""
