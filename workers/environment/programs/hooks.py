"""Asks a project's build backend for its wheel, as PEP 517 says.

Run as a script by the interpreter of a build environment: ``python hooks.py OUT BACKEND [PATH...] < REQUIREMENTS``, in
the project's folder. If the backend asks for more than ``REQUIREMENTS``, a JSON list, the answer is written to
``OUT/requires.json``, and nothing is built; else the wheel is in ``OUT``. Works with every Python that backends work
with, and with the standard library only.
"""

import importlib
import json
import os
import sys


def main(out, name, paths):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - see above
    """Build, or say what is missing."""
    given = json.load(sys.stdin)
    # As pip does: the project's own folder is on the path only where its backend is in there.
    sys.path[:1] = [os.path.abspath(path) for path in paths]  # noqa: PTH100
    module, _, attributes = name.partition(":")
    backend = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        backend = getattr(backend, attribute)
    ask = getattr(backend, "get_requires_for_build_wheel", None)
    asked = list(ask(None)) if ask else []
    if [word for word in asked if word not in given]:
        with open(os.path.join(out, "requires.json"), "w") as file:  # noqa: PTH118, PTH123
            json.dump(asked, file)
    else:
        backend.build_wheel(out, None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])  # type: ignore[no-untyped-call]
