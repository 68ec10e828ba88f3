"""What can be deployed where: a TOML file on the deployment worker, never anything in the repository.

.. code:: toml

    [environments.staging]
    deployer = "local"              # its name; the rest is the deployer's own, see its module
    path = "/srv/releases"

    [environments.production]
    deployer = "local"
    path = "/srv/releases"
    health = { url = "http://127.0.0.1:8000/health" }
    promotion = { soak_s = 600, approval = true }       # what has to be before, whatever the deployer
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Model, Name


class PromotionRule(Model):
    """What has to be before a deployment to an environment is begun."""

    #: The environment that must hold the same release, in health.
    after: Name = "staging"
    #: For how long, in seconds.
    soak_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: How often it is looked at meanwhile.
    check_every_s: float = Field(default=300.0, ge=1, allow_inf_nan=False)
    #: Whether a person has to approve, and how long after the soak that is waited for.
    approval: bool = False
    expires_s: float = Field(default=3 * 24 * 3600.0, gt=0, allow_inf_nan=False)


class Environment(Model):
    """One environment's table."""

    model_config = ConfigDict(extra="allow")

    deployer: Name = "local"
    promotion: PromotionRule | None = None

    @property
    def own(self) -> Mapping[str, object]:
        """What the deployer is to make sense of."""
        return self.model_extra or {}


class _File(Model):
    environments: dict[Name, Environment]


def load_target(path: Path | None, environment: str) -> Environment:
    """Read one environment's table.

    Args:
        path: The targets file; ``TTA_TARGETS_FILE``.
        environment: Its name.

    Raises:
        DeploymentFailed: There is no such file or environment, or the file does not hold.
    """
    if path is None:
        raise DeploymentFailed(
            f"This worker does not know what {environment!r} is.",
            f"Write a TOML file with a table [environments.{environment}], and name it in TTA_TARGETS_FILE.",
        )
    try:
        environments = _File.model_validate(tomllib.loads(path.expanduser().read_text(encoding="utf-8"))).environments
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeploymentFailed(f"The targets file cannot be read: {error}.", f"Mend {path}.") from error
    except ValidationError as error:
        raise DeploymentFailed(f"The targets file does not hold: {problems(error)}.", f"Mend {path}.") from error
    if environment not in environments:
        known = ", ".join(sorted(environments)) or "none"
        raise DeploymentFailed(
            f"There is no environment {environment!r} here; there is: {known}.",
            f"Add a table [environments.{environment}] to {path}.",
        )
    return environments[environment]


def problems(error: ValidationError) -> str:
    """What is wrong with a table, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'the table'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
