"""Downloads what a repository names by URL, from public addresses only: ``python -I -S fetch_url.py URL INTO HOST...``.

Each host is looked up once, and connected to at the address that was looked at; so is each host that a response
redirects to. ``HOST`` (with its port, where the URL has one) are those this worker takes packages from: they may be
anywhere, and without TLS. A proxy that is set up for this host looks hosts up itself.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import sys
import urllib.request
from typing import Any
from urllib.parse import urlsplit

#: Largest file, and seconds for a server to answer.
MAX_BYTES, ANSWER_S = 1 << 30, 60.0


def look_up(host: str, port: int) -> str:
    """A host's address, which must be public, as all others of it.

    Raises:
        OSError: It is not, or there is none.
    """
    found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise OSError(f"{host} is at {address}, which is not a public address")
    return found[0]


class _Connection(http.client.HTTPSConnection):
    def connect(self) -> None:
        if self._tunnel_host:  # type: ignore[attr-defined]
            super().connect()
            return
        plain = socket.create_connection((look_up(self.host, self.port), self.port), self.timeout)
        self.sock = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE")).wrap_socket(
            plain, server_hostname=self.host
        )


class _PublicOnly(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        if request.host in TRUSTED:
            return super().https_open(request)
        return self.do_open(_Connection, request)


class _WithTls(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        if request.host not in TRUSTED:
            raise OSError(f"{request.host} is to be reached without TLS")
        return super().http_open(request)


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *words: Any) -> urllib.request.Request | None:  # noqa: ANN401 - passed on
        request = super().redirect_request(*words)
        if request and request.type not in {"http", "https"}:
            raise OSError(f"it leads to {request.type}:")
        return request


def main(url: str, into: str) -> None:
    """Download it."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise OSError(f"{urlsplit(url).scheme}: is no scheme that is fetched")
    opener = urllib.request.OpenerDirector()
    handlers = (urllib.request.ProxyHandler(), _WithTls(), _PublicOnly(), _SameSchemes())
    for handler in (*handlers, urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()):
        opener.add_handler(handler)
    with opener.open(url, timeout=ANSWER_S) as response, open(into, "wb") as file:  # noqa: PTH123
        while chunk := response.read(1 << 20):
            file.write(chunk)
            if file.tell() > MAX_BYTES:
                raise OSError(f"it has more than {MAX_BYTES:,} bytes")


if __name__ == "__main__":
    TRUSTED = frozenset(sys.argv[3:])
    try:
        main(*sys.argv[1:3])
    except OSError as error:
        sys.exit(f"error: {error}")
