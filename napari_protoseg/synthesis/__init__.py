"""Synthetic tissue: H&E-like tiles with exact masks, the same on every machine."""
