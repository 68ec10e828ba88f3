"""The files of ``TTA_TLS_CA_FILE``, ``TTA_TLS_CERT_FILE`` and ``TTA_TLS_KEY_FILE``."""

from __future__ import annotations

import ssl
from pathlib import Path


def verify(authority: Path | None, certificate: Path | None, key: Path | None) -> None:
    """See that the files are there, can be read and belong together.

    Raises:
        ValueError: They do not; its text names the setting.
    """
    if key is not None and certificate is None:
        raise ValueError("TTA_TLS_KEY_FILE is the key of a certificate: set TTA_TLS_CERT_FILE, too")
    for name, file in (("CA", authority), ("CERT", certificate), ("KEY", key)):
        try:
            if file is not None:
                file.read_bytes()
        except OSError as error:
            raise ValueError(f"TTA_TLS_{name}_FILE: {file} cannot be read: {error.strerror}") from error
    context = ssl.create_default_context()
    try:
        if authority is not None:
            context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise ValueError(f"TTA_TLS_CA_FILE: {authority} holds no certificate in PEM format") from error
    try:
        if certificate is not None:
            # An empty password: OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        why = "do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "are no PEM, or are encrypted"
        raise ValueError(f"TTA_TLS_CERT_FILE and TTA_TLS_KEY_FILE {why}") from error
