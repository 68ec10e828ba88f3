"""Converts between units of length, mass and temperature."""

from typing import Dict, NamedTuple

from calculator.errors import UnitError


class Unit(NamedTuple):
    """A unit as a linear function of its dimension's base: ``base = value * factor + offset``."""

    dimension: str
    factor: float
    offset: float = 0.0


UNITS: Dict[str, Unit] = dict(
    mm=Unit('length', 0.001),
    cm=Unit('length', 0.01),
    m=Unit('length', 1.0),
    km=Unit('length', 1000.0),
    mi=Unit('length', 1609.344),
    ft=Unit('length', 0.3048),
    g=Unit('mass', 0.001),
    kg=Unit('mass', 1.0),
    lb=Unit('mass', 0.45359237),
    K=Unit('temperature', 1.0),
    degC=Unit('temperature', 1.0, 273.15),
    degF=Unit('temperature', 5 / 9, 459.67 * 5 / 9),
)


def convert(value: float, source: str, target: str) -> float:
    """Convert ``value`` from one unit to another, to 12 significant digits.

    >>> convert(1, "mi", "km")
    1.609344

    Raises:
        UnitError: A unit is unknown, the two measure different things, or it is colder than absolute zero.
    """
    origin, goal = _unit(source), _unit(target)
    if origin.dimension != goal.dimension:
        raise UnitError(
            'cannot convert %s (%s) to %s (%s)' % (source, origin.dimension, target, goal.dimension)
        )
    base = value * origin.factor + origin.offset
    if origin.dimension == 'temperature' and base < -1e-9:
        raise UnitError('%g %s is below absolute zero' % (value, source))
    if source == target:
        return float(value)
    else:
        return float('%.12g' % ((base - goal.offset) / goal.factor))


def _unit(name: str) -> Unit:
    try:
        return UNITS[name]
    except KeyError:
        raise UnitError('unknown unit %r, known are %s' % (name, ', '.join(sorted(UNITS)))) from None
