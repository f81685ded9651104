"""Which device a child trains on, chosen without torch: the worker process never imports it."""

from dataclasses import dataclass


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
