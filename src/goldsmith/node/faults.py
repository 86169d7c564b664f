"""What the embedded node answers when it refuses or fails: status, reason, per-parameter texts, in Proxmox's words."""

from __future__ import annotations


class ApiFault(Exception):
    """An answer other than 200. In a worker its `reason` becomes the task's `TASK ERROR: ...` line.

    Source of wordings: what a real Proxmox VE 8.4 was seen to answer.
    """

    def __init__(self, reason: str, *, status: int = 500, errors: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.errors = errors or {}


class ParameterFault(ApiFault):
    """400: one or more parameters are refused; all of them are named at once."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__("Parameter verification failed.", status=400, errors=errors)


class PermissionFault(ApiFault):
    """403: a privilege is missing. `what` is for example `/vms/100, VM.Audit`."""

    def __init__(self, what: str = "") -> None:
        super().__init__(f"Permission check failed ({what})" if what else "Permission check failed", status=403)


class TaskInterrupted(ApiFault):
    """Raised inside a worker's work when its task is stopped, so that everything created is undone on the way out."""

    def __init__(self) -> None:
        super().__init__("received interrupt")
