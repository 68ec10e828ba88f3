"""Posts each end to a URL, as JSON, signed as Standard Webhooks describes.

The signature is the base64 HMAC-SHA256 of ``<webhook-id>.<webhook-timestamp>.<body>``; libraries that verify it exist
for most languages. Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from tta_tasks.errors import ObserverFailed
from tta_tasks.models import End
from tta_tasks.settings import settings

#: Prefix of a secret that is written in base64.
ENCODED: Final = "whsec_"


class Webhook:
    """Posts ends to ``TTA_WEBHOOK_URL``."""

    name = "webhook"

    @property
    def tasks(self) -> bool:
        """Whether ends of tasks are posted, too."""
        return settings().webhook_tasks

    def available(self) -> str:
        """Why nothing is posted, or an empty string."""
        return "" if settings().webhook_url.get_secret_value() else "TTA_WEBHOOK_URL is not set"

    def ended(self, end: End) -> None:
        """Post ``end``; each operation of the connection may take ``observer_timeout_s``.

        Raises:
            ObserverFailed: The server was not reached in time, or answered with another status than 2xx.
        """
        chosen = settings()
        url, body = chosen.webhook_url.get_secret_value(), end.model_dump_json().encode()
        headers = _headers(end.id, body, chosen.webhook_secret.get_secret_value())
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - settings admit http(s) only
        # The address may hold a token: errors name the host alone.
        host = urlsplit(url).hostname
        try:
            with _opener.open(request, timeout=chosen.observer_timeout_s):
                return
        except urllib.error.HTTPError as error:
            with error:
                raise ObserverFailed(f"{host} answered {error.code}.") from None
        except http.client.HTTPException as error:
            raise ObserverFailed(f"{host} did not answer as a server of HTTP does: {type(error).__name__}.") from None
        except OSError as error:
            raise ObserverFailed(f"{host} was not reached: {getattr(error, 'reason', error)}.") from None


def signature(secret: str, delivery: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature`` of a delivery.

    Args:
        secret: Base64 behind ``whsec_``, or any text.
        delivery: The header ``webhook-id``.
        timestamp: The header ``webhook-timestamp``, epoch seconds.
        body: What is posted.
    """
    encoded = secret.startswith(ENCODED)
    key = base64.b64decode(secret.removeprefix(ENCODED)) if encoded else secret.encode()
    digest = hmac.new(key, f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _headers(delivery: str, body: bytes, secret: str) -> dict[str, str]:
    timestamp = int(time.time())
    signed = {"webhook-signature": signature(secret, delivery, timestamp, body)} if secret else {}
    return {
        "Content-Type": "application/json",
        "User-Agent": f"tta-tasks/{version('tta-tasks')}",
        "webhook-id": delivery,
        "webhook-timestamp": str(timestamp),
        **signed,
    }


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is signed for one address is not sent to another."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib's own
        """Follow none; the status is the answer."""


_opener = urllib.request.build_opener(_NoRedirects)
