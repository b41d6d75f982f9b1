"""Training: configuration, devices, the loop, checkpoints."""
