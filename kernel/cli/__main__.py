"""``python -m quorate.kernel.cli``: the same as the installed ``quorate``."""

from __future__ import annotations

import sys

from .main import main

sys.exit(main())
