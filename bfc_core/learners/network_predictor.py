"""A trained network as a predictor: what every hierarchical learner hands back."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.specs import LOWEST_LEVEL


@dataclass(frozen=True)
class NetworkPredictor:
    """One trained network: its parameters and which levels it uses and has distilled."""

    network: DistilledDenseNet
    flat: Float[Tensor, "1 p"]
    lifts: dict[int, Tensor]
    alphas: dict[int, Tensor]
    active: tuple[int, ...]
    distilled: tuple[int, ...]
    is_margin: bool = False
    """Whether rows are (x₀, x) and the prediction is x₀ + F(x): classification."""

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """F(x) over the active levels."""
        passed = self.network.forward(
            self.flat, self.lifts, self.alphas, self._inside(x).to(self.flat)[None], self.active
        )
        output: Tensor = passed.output[0].to(x)
        return x[:, 0] + output if self.is_margin else output

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """S_ℓ of the distilled levels."""
        inside = self._inside(x).to(self.flat)[None]
        found = self.network.features(self.flat, self.lifts, inside, self.distilled)
        return {level: feature[0].to(x) for level, feature in found.items()}

    def forms(self) -> dict[int, Float[Tensor, "i i"]]:
        """KᵀK of level 2 where it is distilled: the levels above read features, whose basis is the network's own."""
        if LOWEST_LEVEL not in self.distilled:
            return {}
        k = self.network.distilled(self.flat, LOWEST_LEVEL)[0].double()
        return {LOWEST_LEVEL: k.mT @ k}

    def _inside(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim_inside"]:
        return x[:, 1:] if self.is_margin else x
