"""The part of the engine that runs inside the sandbox, with the component's own interpreter.

Standard library and Hypothesis only, Python 3.10 and later: it shares an interpreter with code it knows nothing
about, so it is loaded under a private package name (see ``__main__``) and imports nothing else of this project.
"""
