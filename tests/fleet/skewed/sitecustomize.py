"""The clock of a host that is wrong by ``SKEW_S`` seconds, for all that a worker's processes ask it."""

from __future__ import annotations

import os
import time

_right, _right_ns, _by = time.time, time.time_ns, float(os.environ["SKEW_S"])
time.time = lambda: _right() + _by
time.time_ns = lambda: _right_ns() + int(_by * 1e9)
