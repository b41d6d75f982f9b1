"""The classification network, its baselines, and the losses that it is trained with."""
