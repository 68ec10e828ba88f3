"""All settings, read once at a process's edge from the environment (``TTA_`` prefix).

One that may hold a secret can be in a file instead, which ``TTA_..._FILE`` names (:mod:`tta_tasks.secretfiles`).
What a *component* wants is in ``[tool.tta]`` of its own ``pyproject.toml``; what this *host* wants is here.
"""

from __future__ import annotations

import base64
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tta_tasks import certificates, folders, stack
from tta_tasks.errors import SettingsError
from tta_tasks.secretfiles import SecretFiles

REDIS_SCHEMES = ("redis", "rediss", "redis+socket")
#: A Redis at a Unix socket, as Celery writes it: ``redis+socket://:PASSWORD@/run/redis.sock?virtual_host=0``.
SOCKET_SCHEME = "redis+socket://"
AMQP_SCHEMES = ("amqp", "amqps")
_SOCKET_URL = re.compile(r"redis\+socket://([^\s/?#@\[\]]*@)?/[^\s?#@;\[\]]+(\?virtual_host=\d+)?")
#: Fewest characters of a key that signs.
MIN_KEY = 32


class Settings(BaseSettings):
    """How this process is set up. Durations are seconds, sizes bytes."""

    # A value that is refused may be a secret.
    model_config = SettingsConfigDict(env_prefix="TTA_", frozen=True, extra="ignore", hide_input_in_errors=True)

    #: Where tasks are sent; may hold a password. Empty: the local stack that runs in ``state_dir``, and ``tta run`` and
    #: ``tta up`` start one where there is none.
    broker_url: SecretStr = SecretStr("")
    #: Where results, the ledger and artifacts are kept (Redis). Empty: the broker, when that is Redis.
    result_url: SecretStr = SecretStr("")
    #: Artifacts: empty for the Redis of ``result_url``, else an fsspec URL (``file:///srv/tta``, ``s3://bucket/prefix``);
    #: may hold credentials.
    artifact_url: SecretStr = SecretStr("")
    #: Put before every key in Redis, so that several installations can share one.
    key_prefix: str = Field(default="tta:", min_length=1, max_length=64)

    #: For ``rediss://`` and ``amqps://``: certificates of authorities to trust beside the system's, and what to show
    #: where that is asked for. PEM; the key may be in the file of the certificate.
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None

    #: Secrets, apart by white space, that artifacts are signed with (the first) and must be signed with (any of them).
    #: Empty: they are not signed, and all are used. For producers and workers alike.
    signing_key: SecretStr = SecretStr("")

    #: Where the local stack, its releases and the reports of runs are.
    state_dir: Path = Path(".tta")
    #: Where this host keeps what can be made again: snapshots, environments.
    cache_dir: Path = Path("~/.cache/tta-tasks")
    #: Most bytes of unpacked snapshots and of environments kept there, each.
    cache_bytes: int = Field(default=8 << 30, gt=0)
    #: TOML file that says what can be deployed where; read by deployment workers only.
    targets_file: Path | None = None

    #: How long runs, results and artifacts are kept after their last use.
    retention_s: int = Field(default=7 * 24 * 3600, ge=60)
    #: How long what an environment has seen is remembered after its last deployment, for `tta releases`.
    releases_keep_s: int = Field(default=365 * 24 * 3600, ge=60)
    #: Most runs remembered; the oldest are forgotten first.
    max_runs: int = Field(default=1000, ge=1)
    #: Most events kept of one run.
    max_events: int = Field(default=10_000, ge=100)
    #: Most ends of runs and tasks kept for observers that have not taken note of them yet.
    max_ends: int = Field(default=10_000, ge=100)
    #: How long an observer may take for one end, and how often it is told before the end is given up.
    observer_timeout_s: float = Field(default=10.0, gt=0)
    observer_tries: int = Field(default=12, ge=1, le=100)
    #: Where the ends of runs are posted to (``https://``), with what secret they are signed, and whether the ends of
    #: tasks are, too. Empty: nothing is posted.
    webhook_url: SecretStr = SecretStr("")
    webhook_secret: SecretStr = SecretStr("")
    webhook_tasks: bool = False
    #: How long handing in waits for the server's disk, where the server can tell (``WAITAOF``); 0 does not wait.
    submit_fsync_timeout_s: float = Field(default=5.0, ge=0)
    #: Most tasks that wait or run on one queue; more are refused.
    max_queue_tasks: int = Field(default=20_000, ge=1)
    #: Largest request of one task, as JSON.
    max_request_bytes: int = Field(default=2 << 20, ge=1024)
    #: Largest single artifact (a snapshot, a patch) in Redis.
    max_artifact_bytes: int = Field(default=64 << 20, gt=0)
    #: Most bytes of all artifacts in Redis; the least recently used go first, but none that open tasks need.
    artifact_bytes: int = Field(default=2 << 30, gt=0)
    #: Most results that are kept by content; the least recently used go first.
    max_cached_results: int = Field(default=20_000, ge=1)
    #: Largest tree, unpacked, and most files in it.
    max_snapshot_bytes: int = Field(default=512 << 20, gt=0)
    max_snapshot_files: int = Field(default=50_000, gt=0)

    #: The broker delivers a message again when its worker has not renewed it for this long. ``lease_s`` and
    #: ``lease_renewal_s`` derive from it.
    visibility_timeout_s: float = Field(default=60.0, ge=3)
    #: How often one of the workers looks for accepted tasks that were lost.
    reconcile_interval_s: float = Field(default=5.0, gt=0)
    #: How long one task may take before it is asked to end, and how much longer before it is ended.
    task_timeout_s: int = Field(default=3600, ge=10)
    task_grace_s: int = Field(default=60, ge=1)

    #: A task that takes no longer is quick: the next ones of its run need no message each. 0 gives every task its own.
    quick_task_s: float = Field(default=0.005, ge=0)
    #: A worker that is at work takes nothing more while less memory than this is free on its host (or in its control
    #: group). On Redis only.
    min_free_bytes: int = Field(default=512 << 20, ge=0)

    #: Let builds of components and of what they need reach the network, this host's own services included. Only for
    #: repositories that are trusted, and hosts that hold nothing else.
    build_network: bool = False

    #: Further files and folders that commands in the sandbox may read, as data that tests need; absolute, apart by
    #: ``:`` as in ``PATH``.
    sandbox_readable: str = ""
    #: Bounds of one command in the sandbox.
    sandbox_memory_bytes: int = Field(default=4 << 30, ge=64 << 20)
    suite_timeout_s: float = Field(default=600.0, gt=0)

    #: The model that agents ask, as litellm names it (``openai/gpt-5``), unless ``models_file`` says more. Its key is
    #: read here, goes to an agent's process by its standard input, and nowhere else.
    llm_model: str = ""
    llm_api_key: SecretStr = SecretStr("")
    llm_base_url: str = ""
    #: TOML file of several models, see docs/how-to/use-openhands.md.
    models_file: Path | None = None
    #: Bounds of one task's agent: seconds of one attempt, model calls, tokens and US dollars of all its attempts.
    agent_wall_s: float = Field(default=900.0, gt=0)
    agent_calls: int = Field(default=80, ge=1)
    agent_tokens: int = Field(default=3_000_000, ge=1)
    agent_usd: float = Field(default=2.0, gt=0)
    #: US dollars that all agents of one run may spend.
    run_usd: float = Field(default=20.0, gt=0)
    #: How long an agent's conversation is kept after its last use, and most bytes of all of them on this host.
    conversation_keep_s: int = Field(default=24 * 3600, ge=60)
    conversation_bytes: int = Field(default=2 << 30, gt=0)
    #: Let agents run their commands where the sandbox can hide neither files nor processes from them. Only for hosts
    #: that hold nothing but this worker; see docs/how-to/use-openhands.md.
    agents_unconfined: bool = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's own
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Secrets come from the environment or from files, the rest from the environment."""
        return init_settings, SecretFiles(settings_cls), env_settings

    @field_validator("broker_url", "result_url")
    @classmethod
    def _known_scheme(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        known = REDIS_SCHEMES if info.field_name == "result_url" else (*REDIS_SCHEMES, *AMQP_SCHEMES)
        scheme, separator, _ = url.get_secret_value().partition("://")
        if url.get_secret_value() and (not separator or scheme not in known):
            raise ValueError(f"a URL must begin with one of {', '.join(f'{name}://' for name in known)}")
        if scheme == "redis+socket" and not _SOCKET_URL.fullmatch(url.get_secret_value()):
            raise ValueError(
                "the URL of a Unix socket is redis+socket://:PASSWORD@/PATH, percent-encoded; ?virtual_host=NUMBER may "
                "follow"
            )
        if "ssl_" in url.get_secret_value().partition("?")[2]:
            raise ValueError("TLS is set up with TTA_TLS_CA_FILE, _CERT_FILE and _KEY_FILE, not in the URL")
        return url

    @field_validator("sandbox_readable")
    @classmethod
    def _absolute_paths(cls, paths: str) -> str:
        if wrong := [path for path in paths.split(os.pathsep) if path and (path[0] != "/" or not path.strip("/."))]:
            raise ValueError(f"{wrong[0]!r} is not the absolute path of a file or folder")
        return paths

    @field_validator("webhook_url")
    @classmethod
    def _over_http(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        try:
            parts = urlsplit(text)
            known = parts.scheme in {"http", "https"} and parts.hostname is not None and parts.port != 0
        except ValueError:
            known = False
        if text and not (known and text.isascii() and text.isprintable() and " " not in text):
            raise ValueError("a URL must begin with https:// or http://, name a host, and be percent-encoded")
        if text and parts.username is not None:
            raise ValueError("user and password cannot be sent; put a token into the URL's path or query")
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _of_base64(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        if text.startswith("whsec_"):
            try:
                key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
            except ValueError:
                key = b""
            if not key:
                raise ValueError("behind whsec_ there must be base64")
        return secret

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, keys: SecretStr) -> SecretStr:
        if any(len(key) < MIN_KEY for key in keys.get_secret_value().split()):
            raise ValueError(f"a key must have {MIN_KEY} characters or more; `openssl rand -hex 32` makes one")
        return keys

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.broker_url.get_secret_value().startswith("amqp") and not self.result_url.get_secret_value():
            raise ValueError("TTA_RESULT_URL must name a Redis when TTA_BROKER_URL is RabbitMQ")
        if self.retention_s < self.task_timeout_s + self.task_grace_s:
            raise ValueError("TTA_RETENTION_S must be longer than TTA_TASK_TIMEOUT_S + TTA_TASK_GRACE_S")
        if self.tls_ca_file or self.tls_cert_file or self.tls_key_file:
            certificates.verify(self.tls_ca_file, self.tls_cert_file, self.tls_key_file)
        return self

    @property
    def broker(self) -> str:
        """The broker's URL, with its password."""
        return self.broker_url.get_secret_value()

    @property
    def redis(self) -> str:
        """URL of the Redis for results, ledger and artifacts, with its password."""
        return self.result_url.get_secret_value() or self.broker

    @property
    def lease_s(self) -> float:
        """How long a running task stays its worker's without a renewal, in seconds.

        Shorter than the visibility timeout: a lost worker's task can begin again when the broker delivers its message.
        """
        return 0.8 * self.visibility_timeout_s

    @property
    def lease_renewal_s(self) -> float:
        """How often a worker renews its leases and its messages, in seconds: two renewals in a row can fail."""
        return 0.25 * self.visibility_timeout_s

    @property
    def signing_keys(self) -> list[str]:
        """Keys of signatures: the first one signs, any of them is trusted."""
        return self.signing_key.get_secret_value().split()

    @property
    def transport(self) -> str:
        """The kind of broker, as kombu names it: ``redis`` or ``amqp``."""
        return "amqp" if self.broker.startswith("amqp") else "redis"

    @property
    def state(self) -> Path:
        """``state_dir``, absolute; made where it is missing.

        Raises:
            SettingsError: It cannot be, or there is a folder that we did not make.
        """
        return folders.made(self.state_dir, folders.STATE)

    @property
    def sandbox_readable_paths(self) -> list[Path]:
        """``sandbox_readable``, as paths."""
        return [Path(path) for path in self.sandbox_readable.split(os.pathsep) if path]

    @property
    def cache(self) -> Path:
        """``cache_dir``, absolute; made where it is missing.

        Raises:
            SettingsError: It cannot be, or there is a folder that we did not make.
        """
        return folders.made(self.cache_dir, folders.CACHE)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings, completed by the local stack where there is one and no broker is named.

    Raises:
        SettingsError: A variable does not parse, or contradicts another; or there is a state folder that we did not
            make.
    """
    found = read()
    if not found.broker and (local := stack.find(found.state_dir)) is not None:
        return found.model_copy(update={"broker_url": SecretStr(local.broker_url)})
    return found


def read() -> Settings:
    """What the environment says, and nothing else.

    Raises:
        SettingsError: A variable does not parse, or contradicts another.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"TTA_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}" if item["loc"] else item["msg"]
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(
            f"The environment's settings do not hold: {problems}.", "See docs/reference/settings.md."
        ) from error
