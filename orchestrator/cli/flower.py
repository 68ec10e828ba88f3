"""``tta flower``: Flower for whichever broker is configured, the local stack's included."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tta_tasks import secretfiles
from tta_tasks.celery import app
from tta_tasks.errors import SettingsError
from tta_tasks.settings import settings

CONFIG = Path(__file__).parents[1] / "flowerconfig.py"
#: A password shorter than this is as good as none.
MIN_PASSWORD = 12
#: Logins elsewhere, and the handlers that Flower has for them.
PROVIDERS = {
    "github": "GithubLoginHandler",
    "gitlab": "GitLabLoginHandler",
    "google": "GoogleAuth2LoginHandler",
    "okta": "OktaLoginHandler",
}


@click.command(short_help="Start Flower, to look at.")
@click.option("--address", envvar="TTA_FLOWER_ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", envvar="TTA_FLOWER_PORT", type=click.IntRange(1, 65535), default=5555, show_default=True)
def flower(address: str, port: int) -> None:
    """Start Flower: workers and tasks in the browser, to look at and not to touch.

    It asks for the user TTA_FLOWER_USER (tta, if not set) and the password TTA_FLOWER_PASSWORD, and does not start
    without one; or, with FLOWER_AUTH_PROVIDER, for a login elsewhere. TTA_FLOWER_DB names a file that keeps over a
    restart what it has seen.
    """
    access()
    chosen = settings()
    if not chosen.broker:
        raise SettingsError("No broker is configured.", "Set TTA_BROKER_URL, or start a local one with `tta up`.")
    click.echo(f"Flower: http://{address}:{port}/", err=True)
    # Here, and not by the command `celery`: that would look for the application in the current folder first.
    sys.exit(app.start(["flower", f"--conf={CONFIG}", f"--address={address}", f"--port={port}"]))


def access() -> dict[str, object]:
    """Flower's options that say who may look: a login elsewhere where one is named, else user and password.

    Raises:
        SettingsError: Neither is set up, or not so that it protects.
    """
    provider = os.environ.get("FLOWER_AUTH_PROVIDER", "")
    if not provider:
        return {"basic_auth": [_credentials()]}
    names = {"auth": "FLOWER_AUTH", "oauth2_key": "FLOWER_OAUTH2_KEY", "oauth2_secret": "FLOWER_OAUTH2_SECRET"}
    names["oauth2_redirect_uri"] = "FLOWER_OAUTH2_REDIRECT_URI"
    options = {option: secretfiles.read(name) for option, name in names.items()}
    missing = [names[option] for option, value in options.items() if not value]
    if missing or provider not in PROVIDERS:
        problem = f"{', '.join(missing)} not set" if missing else f"no such FLOWER_AUTH_PROVIDER: {provider}"
        raise SettingsError(
            f"Flower does not start: {problem}.",
            f"A login needs {', '.join(names.values())}, and FLOWER_AUTH_PROVIDER: {', '.join(PROVIDERS)}.",
        )
    return {**options, "auth_provider": f"flower.views.auth.{PROVIDERS[provider]}"}


def _credentials() -> str:
    """User and password, as basic authentication has them."""
    user = os.environ.get("TTA_FLOWER_USER") or "tta"
    password = secretfiles.read("TTA_FLOWER_PASSWORD")
    if len(password) < MIN_PASSWORD:
        problem = f"a password of {len(password)} characters" if password else "no password"
        raise SettingsError(
            f"Flower does not start with {problem}: it shows what every worker does.",
            f"Set TTA_FLOWER_PASSWORD (or the file of TTA_FLOWER_PASSWORD_FILE) to {MIN_PASSWORD} characters or more; "
            "`openssl rand -base64 18` makes one.",
        )
    return f"{user}:{password}"
