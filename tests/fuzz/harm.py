"""What leaves a trace where it is unpickled."""

from __future__ import annotations

import os


class Harm:
    """Its pickle calls a function when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (os.environ["PROTOSEG_FUZZ_SANDBOX"] + "/harm",))
