"""Another day: shifts the clocks, so that what depends on the current time shows itself."""

from __future__ import annotations

import datetime
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
    time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)
    time.gmtime = lambda seconds=None: utc(time.time() if seconds is None else seconds)
    time.strftime = lambda pattern, moment=None: form(pattern, time.localtime() if moment is None else moment)
    datetime.date = _Date  # type: ignore[misc]
    datetime.datetime = _DateTime  # type: ignore[misc]


_REAL_DATE, _REAL_DATETIME = datetime.date, datetime.datetime


class _AnyDate(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _REAL_DATETIME if issubclass(cls, _REAL_DATETIME) else _REAL_DATE)


class _Date(datetime.date, metaclass=_AnyDate):
    @classmethod
    def today(cls) -> Any:
        return _REAL_DATE.today() + datetime.timedelta(seconds=SHIFT_S)


class _DateTime(datetime.datetime, metaclass=_AnyDate):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _REAL_DATETIME.now(tz) + datetime.timedelta(seconds=SHIFT_S)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)


for _cls, _name in ((_Date, "date"), (_DateTime, "datetime")):
    _cls.__name__ = _cls.__qualname__ = _name
    _cls.__module__ = "datetime"
