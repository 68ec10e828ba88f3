"""Where artifacts (snapshots, patches, wheels) are kept between hosts: siblings behind one protocol."""

from __future__ import annotations

from tta_tasks import tls
from tta_tasks.errors import SettingsError
from tta_tasks.protocols import ArtifactStore
from tta_tasks.settings import Settings
from tta_tasks.stores.signing import Signer


def open_store(settings: Settings) -> ArtifactStore:
    """The store that ``settings`` name: any fsspec URL, else the Redis already there. Only that one is imported.

    Raises:
        SettingsError: No store is named, or its URL cannot be used here.
    """
    if elsewhere := settings.artifact_url.get_secret_value():
        from tta_tasks.stores.fsspec import FsspecStore  # noqa: PLC0415

        return FsspecStore(
            elsewhere,
            retention_s=settings.retention_s,
            max_bytes=max(settings.max_artifact_bytes, settings.max_snapshot_bytes),
            signer=Signer(settings.signing_keys),
        )
    if not settings.redis:
        raise SettingsError(
            "There is nowhere to keep artifacts: no Redis and no other store is set.",
            "Set TTA_BROKER_URL or TTA_RESULT_URL to a Redis, or TTA_ARTIFACT_URL to a folder or bucket.",
        )
    from tta_tasks.stores.redis import RedisStore  # noqa: PLC0415

    return RedisStore(
        settings.redis,
        prefix=settings.key_prefix,
        retention_s=settings.retention_s,
        max_bytes=settings.max_artifact_bytes,
        max_total_bytes=settings.artifact_bytes,
        fresh_s=settings.visibility_timeout_s,
        tls=tls.redis_options(settings, settings.redis),
        signer=Signer(settings.signing_keys),
    )
