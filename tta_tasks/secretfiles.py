"""Secrets from files, as Docker, Kubernetes and systemd hand them out: ``NAME_FILE`` names the file of ``NAME``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from tta_tasks.errors import SettingsError

HINT = "See docs/reference/settings.md."


def read(name: str) -> str:
    """The secret that the environment holds as ``name``, or in the file that ``name_FILE`` names; empty without both.

    Read once, when a process begins. A last line's end is not part of it.

    Raises:
        SettingsError: Both are set, or the file cannot be read.
    """
    value, file = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if value and file:
        raise SettingsError(f"Both {name} and {name}_FILE are set.", "Remove one of them.")
    if not file:
        return value
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{name}_FILE: {file} cannot be read: {error.strerror}.", HINT) from error
    except ValueError as error:
        raise SettingsError(f"{name}_FILE: {file} holds no UTF-8 text.", HINT) from error


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the settings that may hold a secret."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One setting's value; ``None`` where it holds no secret, or is not set."""
        prefix = str(self.config.get("env_prefix", ""))
        secret = read(f"{prefix}{field_name}".upper()) if field.annotation is SecretStr else ""
        return secret or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All of them that are set."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}
