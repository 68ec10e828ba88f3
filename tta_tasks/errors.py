"""Everything that goes wrong, as one tree.

The first fork is the caller's decision: try again, or not.

    TtaError
    ├── TransientError            try again later
    │   ├── BrokerUnavailable
    │   ├── QueueFull             too much is waiting already
    │   ├── ModelUnavailable      no language model answers now
    │   ├── ObserverFailed        an observer was not told that something ended
    │   └── StoreUnavailable
    └── PermanentError            trying again gives the same answer
        ├── Cancelled             nobody waits for it any more
        ├── SettingsError
        ├── UsageError            what was asked for does not make sense
        │   ├── SpecError
        │   ├── ComponentError
        │   └── UnknownEngine
        ├── SnapshotError
        ├── RecordMissing         no such task or run
        ├── RecordUnreadable      a record that another version wrote
        ├── ArtifactMissing
        ├── ArtifactTooLarge
        ├── ArtifactUntrusted     nobody we trust has stored it
        ├── PatchError
        ├── TreeRefused           code has left in a tree what is not opened
        ├── SandboxError
        ├── EnvironmentFailed     the component's dependencies do not install
        ├── EngineFailed          a generator or a refactorer gave up
        └── DeploymentFailed

Every error says what happened (``message``) and what to do next (``hint``). Exceptions of other libraries are
translated where they enter.
"""

from __future__ import annotations


class TtaError(Exception):
    """Root of all errors of this project.

    Args:
        message: What happened and why, one or two sentences.
        hint: What the reader can do next; may be empty.
    """

    #: Tasks, or the run, that were handed in, and may have been accepted before this went wrong.
    ids: tuple[str, ...] = ()

    def __init__(self, message: str, hint: str = "") -> None:
        # Every argument goes to super(): Celery rebuilds exceptions from ``args``.
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class TransientError(TtaError):
    """The same request may succeed later."""


class BrokerUnavailable(TransientError):
    """The broker does not answer."""


class QueueFull(TransientError):
    """A queue has as many open tasks as it may have."""


class ModelUnavailable(TransientError):
    """No language model answers, or none may be asked now."""


class ObserverFailed(TransientError):
    """An observer was not told that something ended."""


class StoreUnavailable(TransientError):
    """The artifact store or the ledger does not answer."""


class PermanentError(TtaError):
    """The same request will fail again."""


class Cancelled(PermanentError):
    """The work was stopped because nobody waits for it any more."""


class SettingsError(PermanentError):
    """A setting is missing, malformed or contradicts another."""


class UsageError(PermanentError):
    """What was asked for does not make sense here."""


class SpecError(UsageError):
    """The spec cannot be read as one."""


class ComponentError(UsageError):
    """The component cannot be found, or holds no Python."""


class UnknownEngine(UsageError):
    """No engine of that name is installed here."""


class SnapshotError(PermanentError):
    """A tree cannot be packed or unpacked safely."""


class RecordMissing(PermanentError):
    """The ledger knows no such task or run: it never existed here, or has expired."""


class RecordUnreadable(PermanentError):
    """A record of the ledger does not make sense to this version."""


class ArtifactMissing(PermanentError):
    """An artifact never existed here, or has expired."""


class ArtifactTooLarge(PermanentError):
    """An artifact is above the store's limit."""


class ArtifactUntrusted(PermanentError):
    """An artifact is not signed with a key that is trusted here."""


class PatchError(PermanentError):
    """A patch does not apply, or would write where it must not."""


class TreeRefused(PermanentError):
    """Code that ran in a tree has left there what a worker does not open: a link, a pipe, too much."""


class SandboxError(PermanentError):
    """The sandbox cannot give what was demanded of it."""


class EnvironmentFailed(PermanentError):
    """The component's dependencies do not install."""


class EngineFailed(PermanentError):
    """A generator, a refactorer or a gate gave up."""


class DeploymentFailed(PermanentError):
    """A release could not be built, checked or switched to."""
