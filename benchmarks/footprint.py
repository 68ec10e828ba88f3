"""What an installation keeps in Redis, by kind of key: ``python -m benchmarks.footprint``, on what ``TTA_*`` names.

Reads every key's size (``MEMORY USAGE``), so not for a server at work. The figures of docs/explanation/capacity.md are
from here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from tta_tasks.connection import connect
from tta_tasks.settings import settings

#: Ids, digests, names of queues and nodes: what differs between keys of one kind.
OWN = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|[^:]*@[^:]*")


def footprint() -> dict[str, tuple[int, int]]:
    """Kind of key -> how many there are, and their bytes in memory."""
    chosen = settings()
    found: dict[str, list[int]] = defaultdict(list)
    with connect(chosen) as client:
        for key in client.scan_iter(f"{chosen.key_prefix}*", count=1000):
            kind = OWN.sub("*", key.decode().removeprefix(chosen.key_prefix))
            size: Any = client.memory_usage(key)
            found[kind].append(size or 0)
    return {kind: (len(sizes), sum(sizes)) for kind, sizes in found.items()}


def main() -> None:
    """Print a table, largest first."""
    rows = sorted(footprint().items(), key=lambda row: -row[1][1])
    for kind, (count, size) in rows:
        print(f"{kind:<40} {count:>8} keys {size:>12,} bytes {size // max(count, 1):>10,} each")  # noqa: T201 - its purpose
    print(f"{'all':<40} {sum(count for _, (count, _) in rows):>8} keys {sum(size for _, (_, size) in rows):>12,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
