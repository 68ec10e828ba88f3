"""Runs all code that is not ours: a component's tests, generated code, engines, agents, build steps."""

from workers.sandbox.levels import LEVELS
from workers.sandbox.process import ProcessSandbox, detect_sandbox, reap
from workers.sandbox.view import PYTHON

__all__ = ["LEVELS", "PYTHON", "ProcessSandbox", "detect_sandbox", "reap"]
