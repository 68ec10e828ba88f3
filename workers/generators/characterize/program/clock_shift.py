"""Another day: shifts the clocks, so that what depends on the current time shows itself."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import datetime as dt
import time
from typing import Any

#: More than a year and no whole number of weeks or days.
SHIFT_S = 86_400 * 431 + 12_345


def shift() -> None:
    """Shift ``time`` and ``datetime`` for everything imported from now on."""
    real_time, real_ns = time.time, time.time_ns
    local, utc, form = time.localtime, time.gmtime, time.strftime
    time.time = lambda: real_time() + SHIFT_S
    time.time_ns = lambda: real_ns() + SHIFT_S * 10**9
    time.localtime = lambda *at: local(*at or (time.time(),))
    time.gmtime = lambda *at: utc(*at or (time.time(),))
    time.strftime = lambda pattern, *at: form(pattern, *at or (time.localtime(),))
    dt.date = _Date  # type: ignore[misc]
    dt.datetime = _DateTime  # type: ignore[misc]


_REAL_DATE, _REAL_DATETIME = dt.date, dt.datetime


class _AnyDate(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _REAL_DATETIME if cls.__name__ == "datetime" else _REAL_DATE)


class _Date(dt.date, metaclass=_AnyDate):
    @classmethod
    def today(cls) -> Any:
        return _REAL_DATE.today() + dt.timedelta(seconds=SHIFT_S)


class _DateTime(dt.datetime, metaclass=_AnyDate):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _REAL_DATETIME.now(tz) + dt.timedelta(seconds=SHIFT_S)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dt.UTC).replace(tzinfo=None)


for _cls, _name in ((_Date, "date"), (_DateTime, "datetime")):
    _cls.__name__ = _cls.__qualname__ = _name
    _cls.__module__ = "datetime"
