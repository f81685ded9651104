"""``python -m worker``: one worker process, until SIGTERM."""

import os
import sys

from service.config import read_settings
from worker.child_process import ChildStarter
from worker.devices import choose_device


def main() -> int:
    """Run a worker; the exit code is 0 after a drain."""
    settings = read_settings()
    device = choose_device(settings.device)
    # Children inherit it; OpenMP and the GPUs' driver read it once, at import of torch.
    threads = settings.child_threads or max(1, (os.cpu_count() or 1) // settings.concurrency)
    os.environ.update({"OMP_NUM_THREADS": str(threads), **device.environment})  # noqa: TID251
    if "GOMP_SPINCOUNT" not in os.environ:  # noqa: TID251
        # By default a thread that waits for its mates spins: on a busy machine for the whole time slice in which they
        # do not run. docs/decisions/0048: asleep instead, small packs were at least six times faster there.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251
    starter = ChildStarter(settings.child_start, settings.waiting_children)
    starter.warm()
    # Only now, beside the import of torch in the helper process: work that was cut off goes on sooner.
    from worker.process import run_worker  # noqa: PLC0415

    return run_worker(settings, device, starter)


if __name__ == "__main__":
    sys.exit(main())
