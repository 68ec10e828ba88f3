"""What no scheduler could be faster than.

A run's stages follow each other; only its header has tasks side by side. For those, independent and not to be split, on
``m`` identical machines, three lower bounds are known (R. L. Graham, Bounds on multiprocessing timing anomalies, SIAM
J. Appl. Math. 17, 1969; S. Martello and P. Toth, Knapsack Problems, 1990, and M. Dell'Amico and S. Martello, Optimal
scheduling of tasks on identical parallel processors, ORSA J. Comput. 7, 1995): the longest task; the sum of all over m;
and, as of any ``k m + 1`` tasks one machine has to do ``k + 1``, the sum of the shortest ``k + 1`` among the longest
``k m + 1``.
"""

from __future__ import annotations

from collections.abc import Sequence


def header_s(tasks: Sequence[float], slots: int) -> float:
    """The least time that ``tasks``, in seconds, take on ``slots`` side by side."""
    ordered = sorted(tasks, reverse=True)
    crowded = [sum(ordered[k * slots - k : k * slots + 1]) for k in range(1, (len(ordered) - 1) // slots + 1)]
    return max([*ordered[:1], sum(ordered) / slots, *crowded], default=0.0)


def run_s(testing: float, header: Sequence[float], deployments: Sequence[float], slots: int) -> float:
    """The least time of a run whose collection takes none."""
    return testing + header_s(header, slots) + sum(deployments)
