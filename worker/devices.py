"""Which device a child trains on, chosen without torch: the worker process never imports it."""

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout


@dataclass(frozen=True)
class DeviceChoice:
    """Device name for ``execute_pack`` and what the child's environment needs for it."""

    torch_name: str
    environment: dict[str, str]


def choose_device(setting: str) -> DeviceChoice:
    """Read the setting ``device``: ``cpu``, ``cuda``, ``cuda:1`` or a GPU's UUID (``GPU-…``, ``MIG-…``).

    A GPU named by UUID or index is the only one that the child can see, whatever order the driver lists them in.

    Raises:
        ValueError: the setting names no device.
    """
    if setting == "cpu":
        return DeviceChoice("cpu", {"CUDA_VISIBLE_DEVICES": ""})
    if setting == "cuda":
        return DeviceChoice("cuda", {})
    if setting.startswith("cuda:") and setting.removeprefix("cuda:").isdecimal():
        return DeviceChoice("cuda", {"CUDA_VISIBLE_DEVICES": setting.removeprefix("cuda:")})
    if setting.startswith(("GPU-", "MIG-")):
        return DeviceChoice("cuda", {"CUDA_VISIBLE_DEVICES": setting})
    raise ValueError(f"device must be cpu, cuda, cuda:N or a GPU's UUID, it is {setting!r}")


def hold_device(choice: DeviceChoice, data_dir: Path) -> FileLock | None:
    """Take a GPU for the life of this process; None for the CPU, which workers share.

    Raises:
        RuntimeError: another worker of this data folder has it.
    """
    if choice.torch_name == "cpu":
        return None
    name = choice.environment.get("CUDA_VISIBLE_DEVICES", "0")
    folder = data_dir.absolute() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"gpu-{name.replace('/', '-')}.lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RuntimeError(
            f"another worker trains on GPU {name}: start one worker a GPU, each with BFC_DEVICE of its own"
        ) from None
    return lock
