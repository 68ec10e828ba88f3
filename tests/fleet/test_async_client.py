"""Producers in asyncio: the same methods, a loop that is never blocked, nothing left behind by a cancellation."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

import pytest
import redis

from orchestrator import canvas
from tests.fleet.test_client import request
from tta_tasks.client import AsyncTaskClient, TaskClient
from tta_tasks.models import Priority, Status

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack


def methods(kind: type) -> dict[str, inspect.Signature]:
    """Public methods of a class, with their signatures."""
    found = {name: each.__func__ if isinstance(each, classmethod) else each for name, each in vars(kind).items()}
    return {
        name: inspect.signature(each)
        for name, each in found.items()
        if isinstance(each, FunctionType) and not name.startswith("_")
    }


def test_both_clients_have_the_same_methods() -> None:
    """Names, parameters, defaults and types are the same; iterators and futures are those of asyncio."""
    sync, asynchronous = methods(TaskClient), methods(AsyncTaskClient)
    assert list(sync) == list(asynchronous)
    for name, signature in sync.items():
        assert signature.parameters == asynchronous[name].parameters, name
        returned = str(signature.return_annotation).replace("Iterator[", "AsyncIterator[")
        assert asynchronous[name].return_annotation == returned.replace("Future[", "asyncio.Future["), name
        method = getattr(AsyncTaskClient, name)
        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method) or name == "connect"


@dataclass(frozen=True)
class Server:
    """The server, which answers when the test lets it."""

    pid: int

    def hold(self) -> None:
        """Answer no more."""
        os.kill(self.pid, signal.SIGSTOP)

    def release(self) -> None:
        """Answer again."""
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture
def server(valkey: redis.Redis) -> Iterator[Server]:
    """The session's server."""
    found = Server(int(valkey.info("server")["process_id"]))
    yield found
    found.release()


async def first(items: AsyncIterator[object]) -> object:
    return await anext(items)


#: Method -> a call of it, with a client, the id of a task, that of a run, and a folder.
CALLS: dict[str, Callable[[AsyncTaskClient, str, str, Path], Awaitable[object]]] = {
    "store_snapshot": lambda client, _task, _run, folder: client.store_snapshot(folder),
    "fetch_artifact": lambda client, _task, _run, _folder: client.fetch_artifact("0" * 64),
    "submit": lambda client, _task, _run, _folder: client.submit(request()),
    "submit_many": lambda client, _task, _run, _folder: client.submit_many([request()]),
    "retry": lambda client, task, _run, _folder: client.retry(task),
    "status": lambda client, task, _run, _folder: client.status(task),
    "result": lambda client, task, _run, _folder: client.result(task, 0),
    "results": lambda client, task, _run, _folder: first(client.results([task], 0.01)),
    "future": lambda client, task, _run, _folder: client.future(task),
    "events": lambda client, _task, run, _folder: first(client.events(run)),
    "watch": lambda client, _task, run, _folder: first(client.watch(run)),
    "cancel_run": lambda client, _task, run, _folder: client.cancel_run(run),
    "cancel": lambda client, task, _run, _folder: client.cancel(task),
    "approve": lambda client, _task, run, _folder: client.approve(run),
    "reject": lambda client, _task, run, _folder: client.reject(run),
}


def test_every_method_that_asks_the_server_is_tried() -> None:
    """What follows leaves out no method; a run is submitted as tasks are."""
    assert set(CALLS) | {"connect", "close", "submit_run"} == set(methods(AsyncTaskClient))


@pytest.mark.parametrize("method", CALLS)
def test_loop_ticks_while_the_server_does_not_answer(method: str, fleet: Fleet, server: Server, tmp_path: Path) -> None:
    """The server answers only after the loop has ticked 20 times: a call that blocked the loop would never end."""
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "one.py").write_text("x = 1\n")
    task_id, run_id = fleet.client.submit(request()), fleet.submit(["one"])

    async def call() -> None:
        client = AsyncTaskClient(fleet.client)
        server.hold()
        called = asyncio.ensure_future(CALLS[method](client, task_id, run_id, tmp_path / "repository"))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not called.done()
        server.release()
        if method == "events":  # nothing has happened to the run; that the loop ticked is what counts
            called.cancel()
        await asyncio.gather(called, return_exceptions=True)

    asyncio.run(call())


def test_run_is_submitted_watched_and_cancelled(fleet: Fleet) -> None:
    """`submit_run` and `watch` do what those of the other client do: the last record is the run's end."""
    run = fleet.client.ledger.run(fleet.submit(["one"], name="first"))
    tasks = canvas.tasks_of(run.plan.model_copy(update={"id": "second"}), canvas.Generation(), Priority.NORMAL)
    plan = run.plan.model_copy(update={"id": "second", "task_ids": tuple(task.id for task in tasks.all)})

    async def follow() -> Status:
        client = AsyncTaskClient(fleet.client)
        composed = canvas.compose(tasks, plan.mode, client.transport)
        assert await client.submit_run(plan, tasks.all, composed) == "second"
        async for record in client.watch("second", poll_interval=0.1):
            if not record.cancelled:
                await client.cancel_run("second")
        return record.status

    assert asyncio.run(follow()) is Status.CANCELLED


def test_cancelled_waiting_leaves_no_subscription(
    fleet: Fleet, valkey: redis.Redis, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """The last one that gives a task up ends the subscription to it, whether it was cancelled or had a timeout."""
    one, two, three = fleet.client.submit_many([request(), request(), request()])

    def subscribers(task_id: str) -> int:
        return int(valkey.pubsub_numsub(f"tta:task:{task_id}")[0][1])

    async def give_up() -> None:
        client = AsyncTaskClient(fleet.client)
        waiting = [asyncio.ensure_future(client.result(one)) for _ in range(2)]
        streamed = asyncio.ensure_future(first(client.results([two, three])))
        await asyncio.to_thread(eventually, lambda: all(map(subscribers, (one, two, three))))
        waiting[0].cancel()
        streamed.cancel()
        with pytest.raises(TimeoutError):
            await client.result(one, timeout=0)
        await asyncio.to_thread(eventually, lambda: not any(map(subscribers, (two, three))))
        assert subscribers(one) == 1
        waiting[1].cancel()
        await asyncio.to_thread(eventually, lambda: not subscribers(one))
        assert await asyncio.gather(*waiting, streamed, return_exceptions=True)

    asyncio.run(give_up())
    with pytest.raises(TimeoutError):
        fleet.client.result(one, timeout=0)
    eventually(lambda: not subscribers(one))


def test_cancelled_while_the_server_is_asked_it_leaves_no_subscription(
    fleet: Fleet,
    valkey: redis.Redis,
    server: Server,
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    """Also a future that comes to be when its caller is gone already is given up."""
    task_id = fleet.client.submit(request())

    async def give_up() -> None:
        client = AsyncTaskClient(fleet.client)
        server.hold()
        asked = asyncio.ensure_future(client.future(task_id))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        server.release()
        kept = await client.future(task_id)
        kept.cancel()

    asyncio.run(give_up())
    eventually(lambda: not valkey.pubsub_numsub(f"tta:task:{task_id}")[0][1])


@pytest.mark.parametrize("method", ["watch", "events"])
def test_cancelled_iteration_leaves_no_thread(
    method: str, fleet: Fleet, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """The thread that reads for `watch` or `events` ends when the iteration is cancelled, or left."""
    run_id = fleet.submit(["one"])

    def threads() -> int:
        return sum(thread.name.startswith("tta-stream") for thread in threading.enumerate())

    async def give_up() -> None:
        client = AsyncTaskClient(fleet.client)

        async def read() -> None:
            async for _ in getattr(client, method)(run_id, poll_interval=0.2):
                pass

        reading = asyncio.ensure_future(read())
        await asyncio.to_thread(eventually, lambda: threads() == 1)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: threads() == 0)

    asyncio.run(give_up())


def test_result_of_an_ended_task_needs_no_waiting(fleet: Fleet) -> None:
    """With a timeout of 0 a result that is there is returned."""
    task_id = fleet.client.submit(request())
    fleet.client.cancel(task_id)
    assert asyncio.run(AsyncTaskClient(fleet.client).result(task_id, timeout=0)).status is Status.CANCELLED


def test_asyncio_face_awaits_many_without_blocking(fleet: Fleet) -> None:
    """100 awaited results on one connection: all come, and the loop ticks on meanwhile."""
    fleet.start()

    async def produce() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        async with AsyncTaskClient(fleet.client) as client:
            ids = await client.submit_many([request(f"m{number}") for number in range(100)])
            before = ticks
            ended = await asyncio.gather(*(client.result(task_id, timeout=60) for task_id in ids))
            ticker.cancel()
            return sum(result.ok for result in ended), ticks - before

    done, ticks = asyncio.run(produce())
    assert done == 100
    assert ticks > 5


def test_two_await_one_task(fleet: Fleet) -> None:
    """One that gives up waiting does not take the result from the other."""
    fleet.start()

    async def both() -> Status:
        client = AsyncTaskClient(fleet.client)
        task_id = await client.submit(request("one_outlasts"))
        patient = asyncio.create_task(client.result(task_id, timeout=60))
        with pytest.raises(TimeoutError):
            await client.result(task_id, timeout=0.5)
        return (await patient).status

    assert asyncio.run(both()) is Status.COMPLETED
