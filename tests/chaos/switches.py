"""Which releases were made current, by the kernel's account: whoever does it, and however that one dies."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from workers.deployers.release_store import Site

_MOVED_TO = 0x80
_HEADER = struct.Struct("iIII")


class Switches:
    """Watches the links of sites; Linux only (inotify).

    Args:
        sites: They are made, if need be.

    Raises:
        OSError: The kernel refuses.
    """

    def __init__(self, sites: Iterable[Site]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_CLOEXEC)
        self._watched: dict[int, Site] = {}
        for site in sites:
            site.base.mkdir(parents=True)
            self._watched[libc.inotify_add_watch(self._events, os.fsencode(site.base), _MOVED_TO)] = site
        if self._events < 0 or -1 in self._watched:
            raise OSError(ctypes.get_errno(), "inotify")
        #: Site -> releases its link was given, in this order; empty for one whose link was replaced before it was read.
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

    def _note(self, site: Site) -> None:
        # A link is never changed, only replaced: one that was noted before belongs to an earlier event's successor.
        link = site.link.lstat().st_mtime_ns
        known, self._links[site.base] = self._links.get(site.base), link
        self.seen[site.base].append("" if link == known else site.link.readlink().name)
