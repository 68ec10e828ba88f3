"""Which releases were made current, by the kernel's account: whoever does it, and however that one dies."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from workers.deployers.release_store import ReleaseStore

_MOVED_TO = 0x80
_HEADER = struct.Struct("iIII")


class Switches:
    """Watches the links of release stores; Linux only (inotify).

    Args:
        stores: They are made, if need be.

    Raises:
        OSError: The kernel refuses.
    """

    def __init__(self, stores: Iterable[ReleaseStore]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_CLOEXEC)
        self._watched: dict[int, ReleaseStore] = {}
        for store in stores:
            store.base.mkdir(parents=True)
            self._watched[libc.inotify_add_watch(self._events, os.fsencode(store.base), _MOVED_TO)] = store
        if self._events < 0 or -1 in self._watched:
            raise OSError(ctypes.get_errno(), "inotify")
        #: Store -> releases its link was given, in order; empty for one whose link was replaced before it was read.
        self.seen: dict[Path, list[str]] = defaultdict(list)
        self._links: dict[Path, int] = {}
        threading.Thread(target=self._watch, name="switches", daemon=True).start()

    def _watch(self) -> None:
        while data := os.read(self._events, 1 << 16):
            at = 0
            while at < len(data):
                watch, _, _, length = _HEADER.unpack_from(data, at)
                name = data[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0")
                at += _HEADER.size + length
                if name == b"current":
                    self._note(self._watched[watch])

    def _note(self, store: ReleaseStore) -> None:
        # A link is never changed, only replaced: one that was noted before belongs to an earlier event's successor.
        link = store.link.lstat().st_mtime_ns
        known, self._links[store.base] = self._links.get(store.base), link
        self.seen[store.base].append("" if link == known else store.link.readlink().name)
