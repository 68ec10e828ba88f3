"""Which tasks of a canvas come before which."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain, chord, group
from celery.canvas import Signature

from tta_tasks.errors import UsageError
from tta_tasks.order import predecessors
from tta_tasks.tasks import run_tests


def sign(task_id: str) -> Signature[Any]:
    return run_tests.si().set(task_id=task_id)


def test_each_step_of_a_chain_comes_after_the_one_before() -> None:
    """The first comes after nothing."""
    assert predecessors(chain(sign("a"), sign("b"), sign("c"))) == {"a": (), "b": ("a",), "c": ("b",)}


def test_callback_comes_after_all_of_its_header() -> None:
    """And the header's parts after what the chord comes after; a chain in it counts with its end."""
    canvas = chain(sign("a"), chord([sign("b"), chain(sign("c"), sign("d"))], sign("e")), sign("f"))
    after = {"a": (), "b": ("a",), "c": ("a",), "d": ("c",), "e": ("b", "d"), "f": ("e",)}
    assert predecessors(canvas) == after


def test_parts_of_a_group_wait_for_no_part_of_it() -> None:
    """A group as such makes no order."""
    assert predecessors(group(sign("a"), sign("b"))) == {"a": (), "b": ()}


def test_signature_without_an_id_is_refused() -> None:
    """Nothing in the ledger could stand for it."""
    with pytest.raises(UsageError, match="has no id"):
        predecessors(chain(sign("a"), run_tests.si()))
