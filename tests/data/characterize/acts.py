"""Acts when it is imported."""

import subprocess
from pathlib import Path

print("importing acts" * 1000)
Path("acted.txt").write_text("was here")
subprocess.run(["true"], check=True)


def double(number: int) -> int:
    """Twice as much.

    >>> double(21)
    42
    """
    return number * 2


if __name__ == "__main__":
    raise SystemExit(double(1))
