"""Runs inside a component's interpreter: its tests, watched.

A copy of this folder is put beside the component's tree and started there as ``python -m tta_probe CONFIG``. It needs
pytest and coverage and nothing else of ours, and Python >= 3.9. What it sees it writes to an event log line by line, so
that a suite which takes the interpreter down still leaves what was known until then.
"""
