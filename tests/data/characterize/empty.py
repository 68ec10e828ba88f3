"""Nothing to call."""

_X = 1


def _hidden():
    return _X
