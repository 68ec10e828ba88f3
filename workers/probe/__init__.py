"""Runs inside a component's interpreter: its tests, watched.

A copy of this folder is put beside the component's tree. Two processes run from it: the referee (:mod:`.referee`),
which runs no foreign code, and the measured one (:mod:`.__main__`), which runs pytest and tells the referee what it
sees the moment it happens, so that a suite which takes the interpreter down still leaves what was known until then. It
needs pytest and coverage and nothing else of ours, and Python >= 3.9.
"""
