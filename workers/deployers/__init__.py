"""Deployers bring a release to an environment, and roll it back.

To add a deployer, subclass ``RolloutDeployer`` and ``Platform`` of ``rollout.py``: lock, fencing, history and rollback
come with them. Copy the one that is most like yours:

- ``kubernetes.py``: another system replaces the old release, the deployer applies and waits;
- ``compose.py``: old and new run next to each other in containers, behind one public address;
- ``local.py``: folders on this host, and optionally services that run on it.

Register it in the entry point group ``tta_tasks.deployers`` (``pyproject.toml``, of this project or of yours), and name
it in the targets file. docs/how-to/write-an-engine.md has a complete one. The keys of the table go to
docs/reference/targets.md.

What they share:

- ``rollout.py``: the order of the steps, and what happens when one fails;
- ``release_store.py``: one environment's folder: lock, fence, releases, history;
- ``targets.py``: the targets file; ``TargetTable`` is the base of a deployer's own keys;
- ``checks.py``: smoke checks, health checks, the watch;
- ``backends.py`` and ``serving/``: releases that are services, behind one public address;
- ``commands.py`` and ``image.py``: command lines such as ``docker`` and ``kubectl``; container images.
"""
