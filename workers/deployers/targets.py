"""The targets file: the environments, and how to deploy to each. It is on the worker, never in the repository.

.. code:: toml

    [environments.staging]
    deployer = "local"              # its name; the rest is the deployer's own, see its module
    path = "/srv/releases"

    [environments.production]
    deployer = "local"
    path = "/srv/releases"
    health = { url = "http://127.0.0.1:8000/health" }
    promotion = { soak_s = 600, approval = true }       # preconditions, whatever the deployer

    [environments.production.components.shop]    # for this component, over what stands above
    deployer = "compose"
    file = "/etc/tta/shop.yaml"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Model, Name

#: No colon: it would be part of the key that the user may write.
RedisUser = Annotated[str, StringConstraints(pattern=r"^[\w.@-]{1,64}$")]


class PromotionRule(Model):
    """Preconditions of a deployment to an environment."""

    #: The environment that must hold the same release, in health.
    after: Name = "staging"
    #: For how long, in seconds.
    soak_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: Seconds between two checks of it meanwhile.
    check_every_s: float = Field(default=300.0, ge=1, allow_inf_nan=False)
    #: Whether it is rolled back if such a check fails.
    roll_back: bool = False
    #: Whether a person has to approve, and how long after the soak that is waited for.
    approval: bool = False
    #: The Redis users one of whom it has to be; without, anybody who may write to the ledger. A list asks for approval.
    approvers: Annotated[tuple[RedisUser, ...], Field(min_length=1)] | None = None
    expires_s: float = Field(default=3 * 24 * 3600.0, gt=0, allow_inf_nan=False)


class EnvironmentConfig(Model):
    """The table of one environment in the targets file."""

    model_config = ConfigDict(extra="allow")

    deployer: Name = "local"
    promotion: PromotionRule | None = None
    #: What differs for single components; a table that names a deployer stands by itself.
    components: Mapping[Name, Mapping[str, Any]] = {}

    @property
    def own(self) -> Mapping[str, object]:
        """The keys that are the deployer's own."""
        return self.model_extra or {}

    def of(self, component: str) -> EnvironmentConfig:
        """Return the table for one component."""
        special = dict(self.components.get(component, {}))
        general = self.model_dump(exclude={"components"}, exclude_none=True)
        if "deployer" in special:  # what is asked for before a deployment holds for all
            general = {name: value for name, value in general.items() if name == "promotion"}
        table = general | special
        return EnvironmentConfig.model_validate(table)


def absolute(path: Path) -> Path:
    """Return a path with ``~`` expanded to the worker's home; a relative one is refused."""
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


class TargetTable(Model):
    """Base of the models of a deployer's own keys; unknown keys are errors."""

    @classmethod
    def read(cls, table: Mapping[str, object]) -> Self:
        """Validate a table.

        Raises:
            DeploymentFailed: It does not hold.
        """
        try:
            return cls.model_validate(dict(table))
        except ValidationError as error:
            raise DeploymentFailed(
                f"The target's table does not hold: {problems(error)}.",
                "Mend it in the file that TTA_TARGETS_FILE names.",
            ) from error


class _File(Model):
    environments: dict[Name, EnvironmentConfig]


def load_target(path: Path | None, environment: str, component: str) -> EnvironmentConfig:
    """Read one environment's table for one component.

    Args:
        path: The targets file; ``TTA_TARGETS_FILE``.
        environment: The environment's name.
        component: The component's.

    Raises:
        DeploymentFailed: There is no such file or environment, or the file does not hold.
    """
    if path is None:
        raise DeploymentFailed(
            f"This worker does not know what {environment!r} is.",
            f"Write a TOML file with a table [environments.{environment}], and name it in TTA_TARGETS_FILE.",
        )
    environments = _read(path)
    if environment not in environments:
        known = ", ".join(sorted(environments)) or "none"
        raise DeploymentFailed(
            f"There is no environment {environment!r} here; there is: {known}.",
            f"Add a table [environments.{environment}] to {path}.",
        )
    return environments[environment].of(component)


def folders(path: Path) -> list[Path]:
    """The folders for releases that a targets file names.

    Raises:
        DeploymentFailed: The file does not hold.
    """
    tables = [table for each in _read(path).values() for table in (each.own, *each.components.values())]
    return sorted({absolute(Path(str(table["path"]))) for table in tables if "path" in table})


def _read(path: Path) -> Mapping[str, EnvironmentConfig]:
    try:
        return _File.model_validate(tomllib.loads(path.expanduser().read_text(encoding="utf-8"))).environments
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeploymentFailed(f"The targets file cannot be read: {error}.", f"Mend {path}.") from error
    except ValidationError as error:
        raise DeploymentFailed(f"The targets file does not hold: {problems(error)}.", f"Mend {path}.") from error


def problems(error: ValidationError) -> str:
    """What is wrong with a table, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'the table'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
