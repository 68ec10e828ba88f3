"""Plays one role of one peer; see :mod:`benchmarks.peers.protocol`."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.peers.protocol import Peer, produce


def main() -> None:
    """Play the role that the command line names."""
    _, name, role = sys.argv
    peer: Peer = import_module(f"benchmarks.peers.{name}").PEER()
    if role == "work":
        peer.work()
    else:
        produce(peer)


if __name__ == "__main__":
    main()
