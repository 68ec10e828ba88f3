"""A fleet over TLS, both sides with certificates; and what is said when one of them does not hold."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from click.testing import CliRunner

from orchestrator.cli import main
from tta_tasks import publishing
from tta_tasks.celery import app, configuration
from tta_tasks.client import TaskClient
from tta_tasks.errors import BrokerUnavailable, SettingsError
from tta_tasks.fleet import Fleet as View
from tta_tasks.ledger import Ledger
from tta_tasks.models import Status
from tta_tasks.settings import settings

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack

CALCULATOR = Path(__file__).parents[2] / "examples" / "calculator"
EXPIRED = datetime.now(UTC) - timedelta(days=1)


class Authority:
    """An authority, and what it signs, as files below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def client(self, name: str = "worker") -> Path:
        """Certificate and key of a client, in one file."""
        file = self._folder / f"{name}.pem"
        self.ca.issue_cert(common_name=name).private_key_and_cert_chain_pem.write_to_path(file)
        return file


@contextmanager
def terminated(port: int, certificate: trustme.LeafCert, clients: trustme.CA | None = None) -> Iterator[int]:
    """A port on the loopback that speaks TLS for the server on ``port``.

    Args:
        port: Where the server without TLS is.
        certificate: What it shows.
        clients: The authority whose clients alone are let in; without, everybody is.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    ready: queue.Queue[tuple[int, Callable[[], object]]] = queue.Queue()

    async def serve() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda *_: None)  # handshakes that fail are what the tests are about
        server = await asyncio.start_server(lambda *near: _join(near, port), "127.0.0.1", 0, ssl=context)
        ready.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(ended.set)))
        await ended.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    taken, end = ready.get()
    try:
        yield taken
    finally:
        end()
        thread.join()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(near: Stream, port: int) -> None:
    far = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(_pump(near[0], far[1]), _pump(far[0], near[1]))
    except (OSError, asyncio.CancelledError):  # one side has gone, or the test is over
        return
    finally:
        near[1].transport.abort()
        far[1].transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority that our server and our clients have their certificates from."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def port(valkey_url: str) -> int:
    """Port of a server without TLS."""
    return int(valkey_url.rpartition(":")[2].partition("/")[0])


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Set this process up for a server with TLS."""

    def configure(port: int, **files: Path) -> None:
        monkeypatch.setenv("TTA_STATE_DIR", str(tmp_path / "state"))
        for name in ("TTA_BROKER_URL", "TTA_RESULT_URL"):
            monkeypatch.setenv(name, f"rediss://127.0.0.1:{port}/0")
        for name, file in files.items():
            monkeypatch.setenv(f"TTA_TLS_{name.upper()}_FILE", str(file))
        settings.cache_clear()
        app.conf.update(configuration(settings()))
        app._after_fork()  # type: ignore[attr-defined]

    return configure


def test_run_over_mutual_tls(
    fleet: Fleet, authority: Authority, port: int, configured: Callable[..., None], tmp_path: Path
) -> None:
    """Broker, ledger, artifacts, the waiting client and the view of the fleet all speak TLS and show a certificate."""
    with terminated(port, authority.ca.issue_cert("127.0.0.1"), clients=authority.ca) as secured:
        configured(secured, ca=authority.file, cert=authority.client())
        with TaskClient.connect() as client:
            mine = type(fleet)(client, settings(), tmp_path)
            worker = mine.start()
            try:
                client.store.put(b"a snapshot")
                record = mine.ended(mine.submit(["one"]))
                assert record.status is Status.COMPLETED
                assert client.result(record.tasks[-1].id, timeout=10).ok
                assert View(Ledger.connect(settings()), settings()).look().queues[0].workers
                told = CliRunner().invoke(main, ["doctor"])
                assert f"rediss://127.0.0.1:{secured}/0 answers" in told.output
            finally:
                mine.kill(worker)


#: What does not hold -> what the server shows, whether it asks for a certificate, whether we trust its authority.
FAULTS: dict[str, tuple[Callable[[trustme.CA], trustme.LeafCert], bool, bool]] = {
    "its certificate has expired": (lambda ca: ca.issue_cert("127.0.0.1", not_after=EXPIRED), False, True),
    "not signed by an authority that is trusted here": (lambda ca: ca.issue_cert("127.0.0.1"), False, False),
    "its certificate is for another name": (lambda ca: ca.issue_cert("redis.example"), False, True),
    "want of a client certificate": (lambda ca: ca.issue_cert("127.0.0.1"), True, True),
}
TODO = {
    "its certificate has expired": "Renew the server's certificate",
    "not signed by an authority that is trusted here": "Set TTA_TLS_CA_FILE",
    "its certificate is for another name": "Connect by a name that is in the certificate",
    "want of a client certificate": "Set TTA_TLS_CERT_FILE",
}
COMMANDS = (
    pytest.param(("doctor",), marks=pytest.mark.slow),
    pytest.param(("worker", "testing"), marks=pytest.mark.slow),
    ("submit", str(CALCULATOR / "specs" / "calculator.md"), "--repo", str(CALCULATOR)),
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("said", FAULTS)
def test_faults_of_certificates_are_told(
    said: str, command: tuple[str, ...], authority: Authority, port: int, configured: Callable[..., None]
) -> None:
    """One message says what is wrong with which certificate, and one what to do, whoever is asked."""
    certificate, asks, trusts = FAULTS[said]
    with terminated(port, certificate(authority.ca), clients=authority.ca if asks else None) as secured:
        configured(secured, **({"ca": authority.file} if trusts else {}))
        told = CliRunner().invoke(main, command, catch_exceptions=False)
    assert told.exit_code == (1 if command[0] == "doctor" else 3)
    assert f"127.0.0.1:{secured}/0 cannot be spoken to over TLS: " in told.output
    assert said in told.output
    assert TODO[said] in told.output


@pytest.mark.parametrize("said", FAULTS)
def test_the_same_is_told_of_rabbitmq(
    said: str,
    authority: Authority,
    port: int,
    configured: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`amqps://` checks the other side as `rediss://` does, before it is asked for anything."""
    certificate, asks, trusts = FAULTS[said]
    with terminated(port, certificate(authority.ca), clients=authority.ca if asks else None) as secured:
        configured(secured, **({"ca": authority.file} if trusts else {}))
        monkeypatch.setenv("TTA_BROKER_URL", f"amqps://tta:geheim@127.0.0.1:{secured}//")
        settings.cache_clear()
        app.conf.update(configuration(settings()))
        with pytest.raises(BrokerUnavailable, match=f"(?s)over TLS: .*{said}.*{TODO[said]}") as told:
            publishing.reach()
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize("which", ["missing", "garbage", "alone", "foreign", "weakened"])
def test_files_that_do_not_hold(
    which: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are missing, no certificates, or do not belong together are told before anything is begun."""
    (tmp_path / "garbage").write_text("no certificate")
    one, other = authority.client("one"), authority.client("other")
    name, value, said = {
        "missing": ("TTA_TLS_CA_FILE", tmp_path / "nowhere", "TTA_TLS_CA_FILE: .* cannot be read: No such file"),
        "garbage": ("TTA_TLS_CA_FILE", tmp_path / "garbage", "holds no certificate in PEM format"),
        "alone": ("TTA_TLS_KEY_FILE", one, "set TTA_TLS_CERT_FILE, too"),
        "foreign": ("TTA_TLS_KEY_FILE", other, "do not belong together"),
        "weakened": ("TTA_BROKER_URL", "rediss://127.0.0.1/0?ssl_cert_reqs=none", "not in the URL"),
    }[which]
    if which == "foreign":
        monkeypatch.setenv("TTA_TLS_CERT_FILE", str(one))
    monkeypatch.setenv(name, str(value))
    with pytest.raises(SettingsError, match=said):
        settings()
