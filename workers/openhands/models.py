"""Which language models there are on this host, and which is asked first."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from tta_tasks.errors import SettingsError
from tta_tasks.models import Model, Name
from tta_tasks.settings import Settings

Kind = Literal["generation", "refactoring"]
HINT = "See docs/how-to/use-openhands.md."


class LanguageModel(Model):
    """One entry of the registry."""

    #: What people, reports and the fleet's limits call it.
    name: Name
    #: litellm's id, provider first: ``anthropic/claude-sonnet-4-5``.
    litellm: str = Field(min_length=1)
    base_url: str = ""
    #: Where its key is: a variable of the worker's environment, or a file. Neither: ``TTA_LLM_API_KEY``.
    key_env: str = ""
    key_file: Path | None = None
    #: US dollars for a million tokens; without, litellm's own table is asked.
    input_usd: float | None = Field(default=None, ge=0)
    output_usd: float | None = Field(default=None, ge=0)
    #: Tokens that fit into its context; 0 where litellm knows.
    context: int = Field(default=0, ge=0)
    #: How well it works, from 1 to 5.
    quality: int = Field(default=3, ge=1, le=5)
    #: What it is to be used for.
    kinds: tuple[Kind, ...] = ("generation", "refactoring")
    #: Agents at work with it at once, and requests a minute (0: no limit), in the whole fleet.
    max_agents: int = Field(default=4, ge=1)
    requests_per_minute: int = Field(default=0, ge=0)
    #: Seconds one answer may take, how often it is asked for, and seconds before the second time; then twice as many.
    timeout_s: float = Field(default=120.0, gt=0)
    attempts: int = Field(default=3, ge=1)
    retry_wait_s: int = Field(default=2, ge=0)
    #: For people.
    notes: str = ""

    def key(self, settings: Settings) -> SecretStr:
        """Its key; empty where it needs none.

        Raises:
            SettingsError: The file with it cannot be read.
        """
        if self.key_env:
            return SecretStr(os.environ.get(self.key_env, ""))
        if self.key_file is None:
            return settings.llm_api_key
        try:
            return SecretStr(self.key_file.expanduser().read_text(encoding="utf-8").strip())
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The key of the model {self.name!r} cannot be read from {self.key_file}.", HINT
            ) from error


_ENTRIES = TypeAdapter(tuple[LanguageModel, ...])


def registry(settings: Settings) -> tuple[LanguageModel, ...]:
    """The models of this host, in the order of its file; empty where none is configured.

    Raises:
        SettingsError: The file cannot be read, or does not hold.
    """
    if settings.models_file is not None:
        return _read(settings.models_file.expanduser())
    if not settings.llm_model:
        return ()
    name = settings.llm_model.rpartition("/")[2]
    return _parsed([{"name": name, "litellm": settings.llm_model, "base_url": settings.llm_base_url}], "TTA_LLM_MODEL")


def order(models: Sequence[LanguageModel], kind: Kind, difficulty: int) -> list[LanguageModel]:
    """The models to ask for a piece of work, best first.

    Args:
        models: The registry.
        kind: The kind of work.
        difficulty: 1 to 5, the quality it takes. Of the models that are as good, the cheapest comes first; then the
            others, best first.
    """
    fit = [model for model in models if kind in model.kinds]
    good = [model for model in fit if model.quality >= difficulty]
    return sorted(good, key=_price) + sorted(
        (model for model in fit if model not in good), key=lambda model: -model.quality
    )


def _price(model: LanguageModel) -> float:
    # Agents read far more than they write. Without a price, the registry's order decides among its like.
    return 10 * (model.input_usd or 0.0) + (model.output_usd or 0.0)


def _read(file: Path) -> tuple[LanguageModel, ...]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"TTA_MODELS_FILE: {file} cannot be read: {error.strerror}.", HINT) from error
    except ValueError as error:
        raise SettingsError(f"TTA_MODELS_FILE: {file} is no TOML: {error}.", HINT) from error
    models = _parsed(table.get("model", []), str(file))
    if not models:
        raise SettingsError(f"TTA_MODELS_FILE: {file} has no [[model]].", HINT)
    if len({model.name for model in models}) < len(models):
        raise SettingsError(f"TTA_MODELS_FILE: {file} names a model twice.", HINT)
    return models


def _parsed(entries: Any, where: str) -> tuple[LanguageModel, ...]:  # noqa: ANN401 - of a person's file
    try:
        return _ENTRIES.validate_python(entries)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)
        )
        raise SettingsError(f"The models of {where} do not hold: {problems}.", HINT) from error
