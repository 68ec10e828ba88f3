"""Queues and workers as a table for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tta_tasks.fleet import FleetState, QueueState


def picture(state: FleetState, where: str) -> RenderableType:
    """One look at the fleet.

    Args:
        state: What was seen.
        where: The broker, as it may be shown.
    """
    return Group(_head(state, where), "", _queues(state), "", _workers(state))


def _head(state: FleetState, where: str) -> Text:
    ended = {
        status: int(sum(amount for name, amount in state.counters.items() if _is_end(name, status)))
        for status in ("completed", "failed", "cancelled")
    }
    head = Text(where, style="bold")
    head.append(f"   {ended['completed']} done", style="green")
    head.append(f"   {ended['failed']} failed", style="red" if ended["failed"] else "dim")
    head.append(f"   {ended['cancelled']} cancelled", style="dim")
    head.append(f"   {state.dead} dead letters", style="bold red" if state.dead else "dim")
    if not state.reconciled:
        head.append("   nobody looks after lost tasks", style="bold red")
    return head


def _is_end(field: str, status: str) -> bool:
    return field.startswith("ended:") and field.endswith(f":{status}")


def _queues(state: FleetState) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("queue", "waiting", "by priority", "oldest", "running", "parked", "open", "slots", "lease"):
        table.add_column(name, justify="left" if name in {"queue", "by priority"} else "right")
    for queue in state.queues:
        table.add_row(
            Text(queue.name, style="bold"),
            str(sum(found.count for found in queue.waiting)),
            _by_priority(queue),
            _oldest(queue),
            Text(str(queue.running), style="cyan" if queue.running else "dim"),
            Text(str(queue.parked), style="yellow" if queue.parked else "dim"),
            str(queue.open),
            Text(str(queue.slots) if queue.workers else "nobody", style="" if queue.workers else "bold red"),
            f"{queue.lease_age_s:.0f} s" if queue.running else "",
        )
    return table


def _by_priority(queue: QueueState) -> str:
    return "  ".join(f"{found.priority or 'any'} {found.count}" for found in queue.waiting if found.count)


def _oldest(queue: QueueState) -> str:
    ages = [found.oldest_s for found in queue.waiting if found.oldest_s is not None]
    return f"{max(ages):.0f} s" if ages else ""


def _workers(state: FleetState) -> Table:
    table = Table("worker", "queues", "slots", box=None, pad_edge=False, header_style="dim")
    queues: dict[tuple[str, int], list[str]] = {}
    for queue in state.queues:
        for worker in queue.workers:
            queues.setdefault((worker.name, worker.slots), []).append(queue.name)
    for (name, slots), names in sorted(queues.items()):
        table.add_row(name, ", ".join(names), str(slots))
    return table
