"""A module that tries to get away, and to take others with it."""

import faulthandler
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path


def leave(code: int) -> None:
    os._exit(code)


def crash(word: str) -> int:
    if word.startswith("a"):
        faulthandler._sigsegv()
    return len(word)


def kill(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def spawn(command: str) -> int:
    return subprocess.call(["true", command])


def connect(host: str) -> None:
    socket.create_connection((host, 80))


def write(text: str) -> int:
    return Path("escaped.txt").write_text(text)


def write_up(text: str) -> int:
    return (Path(__file__).parent / "escaped.txt").write_text(text)


def spin(number: int) -> None:
    while True:
        pass


def stubborn(number: int) -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def backtrack(number: int) -> bool:
    return bool(re.match(r"(a+)+$", "a" * 40 + "b"))


def sleepy(number: int) -> int:
    time.sleep(30)
    return number


def flood(number: int) -> None:
    for _ in range(200):
        print("x" * 1_000_000)


def thread(number: int) -> None:
    threading.Thread(target=time.sleep, args=(60,)).start()


def environ(value: str) -> str:
    os.environ["TTA_LEAK"] = value
    return value


def deep(number: int) -> int:
    return deep(number + 1)


def quit_now(code: int) -> None:
    sys.exit(code)


def fine(number: int) -> str:
    if number > 10:
        return "big"
    return "small"
