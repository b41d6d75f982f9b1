"""The prototype bank: candidates, clustering, prototypes, and their file."""
