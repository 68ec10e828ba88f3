"""Finds a package's source archive in indexes, and downloads it: nothing of it is run.

Run by our own interpreter: ``python -I fetch_sdist.py INTO < JOB``, with a job of JSON: ``requirement``, ``indexes``,
``find_links``, and ``python`` (``[3, 11]``). Prints JSON: ``file`` and ``version``; nothing where there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import sys

from unearth import PackageFinder, TargetPython
from unearth.auth import MultiDomainBasicAuth
from unearth.fetchers.sync import PyPIClient

#: Largest archive.
MAX_BYTES = 1 << 30


def main(into: str) -> None:
    """Do the job of the standard input."""
    job = json.load(sys.stdin)
    # The system's certificates beside those of the HTTP library, as uv is told by the same variables.
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    with PyPIClient(verify=context) as session:
        session.auth = MultiDomainBasicAuth(prompting=False, index_urls=job["indexes"])
        name = job["requirement"]["name"]
        finder = PackageFinder(
            session,  # type: ignore[arg-type] # its library's own
            index_urls=job["indexes"],
            find_links=job["find_links"],
            target_python=TargetPython(py_ver=tuple(job["python"])),
            no_binary=[name],
        )
        best = finder.find_best_match(name + job["requirement"]["specifier"]).best
        if best is None or best.link.is_wheel or best.link.is_vcs:
            return
        wanted, digest = (best.link.hash_option or {}).get("sha256", []), hashlib.sha256()
        with (
            session.get_stream(best.link.normalized) as response,
            open(os.path.join(into, "archive"), "wb") as file,  # noqa: PTH118, PTH123
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                digest.update(chunk)
                file.write(chunk)
                if file.tell() > MAX_BYTES:
                    sys.exit(f"error: the archive has more than {MAX_BYTES:,} bytes")
        if wanted and digest.hexdigest() not in wanted:
            sys.exit(f"error: the sha256 of {best.link.filename} is not the one that its index names")
        print(json.dumps({"version": best.version, "sha256": digest.hexdigest()}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
