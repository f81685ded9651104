"""Where one member of an exact pack stands: which levels are open, and how it ended."""

from dataclasses import dataclass, field


@dataclass
class MemberState:
    """Where one member's state machine stands. All plain values, so that a checkpoint can hold it."""

    epsilon: float | None = None
    active: list[int] = field(default_factory=list)
    distilled: list[int] = field(default_factory=list)
    norms: dict[int, float] = field(default_factory=dict)
    ranks: dict[int, int] = field(default_factory=dict)
    opened_at: dict[str, int] = field(default_factory=dict)
    ended_at: int | None = None
    """Step at which it was done, or not finite any more."""
    flops: int | None = 0
    """Of distillations and looks; those of the steps follow from their number. None where a checkpoint of an earlier
    version did not say."""
    is_finite: bool = True

    def spend(self, flops: int) -> None:
        """Add to ``flops``."""
        self.flops = None if self.flops is None else self.flops + flops

    @property
    def stage(self) -> str:
        """The stage in the words of the practical schedule."""
        level = max(self.active)
        return f"level {level} {'distilled' if level in self.distilled else 'wide'}"
