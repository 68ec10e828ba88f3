"""TLS towards Redis (``rediss://``) and RabbitMQ (``amqps://``): whom to trust, what to show, its faults in our words.

The other side's certificate is always checked, its name included; there is no switch that turns it off. (Celery's own
default for ``rediss://`` checks nothing.)
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tta_tasks.settings import Settings

#: Seconds to hear why a server closes the connection.
LISTEN_S: Final = 2.0
CLIENT: Final = "Set TTA_TLS_CERT_FILE and TTA_TLS_KEY_FILE to one that it takes."
#: OpenSSL's code of what is wrong with their certificate -> what that means, and what to do.
THEIRS: Final[dict[int, tuple[str, str]]] = {
    9: ("its certificate is not valid yet", "Compare the clocks of both hosts."),
    10: ("its certificate has expired", "Renew the server's certificate, and have the server read it again."),
    **dict.fromkeys(
        (2, 18, 19, 20, 21),
        (
            "its certificate is not signed by an authority that is trusted here",
            "Set TTA_TLS_CA_FILE to the certificate of the authority that signed it.",
        ),
    ),
    **dict.fromkeys(
        (62, 64),
        (
            "its certificate is for another name",
            "Connect by a name that is in the certificate, or have one made for this name (subjectAltName).",
        ),
    ),
}
#: Part of OpenSSL's reason when the other side turns us away -> the same.
OURS: Final[dict[str, tuple[str, str]]] = {
    "CERTIFICATE_REQUIRED": ("it asks for a client certificate and was shown none", CLIENT),
    "HANDSHAKE_FAILURE": ("it ended the handshake, most often for want of a client certificate", CLIENT),
    "CERTIFICATE_EXPIRED": ("our client certificate has expired", "Renew the file of TTA_TLS_CERT_FILE."),
    "UNKNOWN_CA": ("it does not trust the authority that signed our client certificate", CLIENT),
    "CERTIFICATE_REVOKED": ("our client certificate was revoked", CLIENT),
    "CERTIFICATE_UNKNOWN": ("it does not take our client certificate", CLIENT),
    "UNSUPPORTED_CERTIFICATE": ("it does not take our kind of client certificate", CLIENT),
    "BAD_CERTIFICATE": ("it does not take our client certificate", CLIENT),
    "WRONG_VERSION_NUMBER": ("there is no TLS at this port", "Name the port with TLS, or use redis:// or amqp://."),
    "RECORD_LAYER_FAILURE": ("there is no TLS at this port", "Name the port with TLS, or use redis:// or amqp://."),
}


def redis_options(settings: Settings, url: str) -> dict[str, Any]:
    """What redis-py, and so Celery, must be told for the Redis at ``url``; nothing where that is without TLS."""
    if not url.startswith("rediss://"):
        return {}
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": _text(settings.tls_ca_file),
        "ssl_certfile": _text(settings.tls_cert_file),
        "ssl_keyfile": _text(settings.tls_key_file),
    }


def broker_options(settings: Settings) -> dict[str, Any] | None:
    """Celery's ``broker_use_ssl``."""
    if not settings.broker.startswith("amqps://"):
        return redis_options(settings, settings.broker) or None
    return {
        "cert_reqs": ssl.CERT_REQUIRED,
        # kombu puts the host of the URL here; without the key it would not check the name.
        "server_hostname": None,
        "ca_certs": _text(settings.tls_ca_file),
        "certfile": _text(settings.tls_cert_file),
        "keyfile": _text(settings.tls_key_file),
    }


def fault(error: BaseException) -> tuple[str, str] | None:
    """What was wrong with TLS, and what to do, where that is why ``error`` was raised; ``None`` where it is not."""
    for cause in chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return THEIRS.get(cause.verify_code, (f"its certificate is not accepted: {cause.verify_message}", ""))
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            reason = cause.reason or str(cause)
            return next((told for part, told in OURS.items() if part in reason), (f"TLS failed: {reason}", ""))
    return None


def turned_away(url: str, settings: Settings) -> tuple[str, str] | None:
    """The same, where a server with TLS closed the connection on a client that has no certificate to show.

    In TLS 1.3 it says why only after the handshake, and who is writing by then seldom hears it. So this shakes hands
    once more, and listens.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"rediss", "amqps"} or settings.tls_cert_file is not None:
        return None
    context = ssl.create_default_context()
    if settings.tls_ca_file is not None:
        context.load_verify_locations(settings.tls_ca_file)
    near = (parts.hostname or "localhost", parts.port or (6379 if parts.scheme == "rediss" else 5671))
    try:
        with (
            socket.create_connection(near, timeout=LISTEN_S) as plain,
            context.wrap_socket(plain, server_hostname=near[0]) as secured,
        ):
            return OURS["HANDSHAKE_FAILURE"] if secured.recv(1) == b"" else None
    except ssl.SSLError as error:
        return fault(error)
    except OSError:
        return None  # it lets us wait for more, or is not there any more


def chain(error: BaseException) -> Iterator[BaseException]:
    """``error``, and what it was raised for, down to the first cause."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
