"""``python .../program/__main__.py JOB.json``: load the program under a private name, and do the job.

The module under test may have any name, ``case`` and ``source`` too, so this folder must not be on ``sys.path``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGE = "_tta_characterize"


def main() -> None:
    """Import the package from where this file is, and hand over."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    spec = importlib.util.spec_from_file_location(PACKAGE, here / "__init__.py", submodule_search_locations=[str(here)])
    if spec is None or spec.loader is None:
        raise SystemExit(f"{here} is incomplete")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    importlib.import_module(f"{PACKAGE}.job").run(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
