"""Errors of the core, named for the fact they carry."""


class BfcError(Exception):
    """Anything the core refuses; its message is written for the person who asked."""


class ResourceLimitExceeded(BfcError):
    """A run would need more memory than it may use; raised before any work is spent."""

    def __init__(self, what: str, needed_bytes: int, limit_bytes: int) -> None:
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"{what} needs {needed_bytes / 2**30:.2f} GiB, the limit is {limit_bytes / 2**30:.2f} GiB; "
            "use fewer samples or raise the limit"
        )


class TargetIsConstant(BfcError):
    """The target has no variance on the test samples, so that no error can be measured against it."""


class DataSetUnusable(BfcError):
    """The file of a data set is not there, is another one than its target says, or holds no samples."""


class KernelNotPositiveDefinite(BfcError):
    """A gram matrix stayed indefinite after the largest jitter that is allowed."""


class KernelNotFinite(KernelNotPositiveDefinite):
    """A gram matrix, features or targets hold values that are not finite: no ridge helps."""


class PackInterrupted(BfcError):
    """The pack was asked to stop at a step boundary; its checkpoint is on disk."""
