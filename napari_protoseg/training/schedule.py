"""Schedules of the learning rate and of the average of the weights."""

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


def average_decay(share: float, steps: int) -> float:
    """Return the decay of an exponential average of weights that reaches back over some steps.

    With it, all steps before the last ``share * steps`` together count ``1 / e``.

    Parameters
    ----------
    share
        Of the steps of the training, 0..1.
    steps
        Number of them.
    """
    return 1 - 1 / max(share * steps, 1.0)
