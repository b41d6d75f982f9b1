"""The learning-rate schedule."""

from __future__ import annotations

_FIRST = 1e-6


def poly_factor(step: int, steps: int, warmup: int = 0, power: float = 1.0) -> float:
    """Return the factor on the learning rate at a step.

    Linear from 1e-6 over `warmup` steps, then ``(1 - (step - warmup) / steps) ** power``: as the
    released code has it, the decay runs over all `steps`, and so does not reach zero when some
    of them were warm-up.

    Parameters
    ----------
    step
        0 for the first.
    steps
        Number of optimiser steps of the training, at least 1.
    warmup
        Number of them in the warm-up.
    power
        Exponent of the decay.
    """
    if step < warmup:
        return 1 - (1 - step / warmup) * (1 - _FIRST)
    decay: float = max(1 - (step - warmup) / steps, 0.0) ** power
    return decay
