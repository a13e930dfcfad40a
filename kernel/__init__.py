"""The kernel: replicates any state machine and knows none. Start reading at :mod:`quorate.kernel.machine`."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
