"""Counts the FLOPs of what torch is asked to do, call by call, while it runs.

The counter sees the shapes of every product, factorisation and solve, wherever it stands in the code, so no formula can
drift from what is computed. It costs every call a little: nothing for blocks of a gram, too much for the optimiser
steps of a network. Work outside torch, and work that was lent, is charged by :func:`charge` and
:func:`charged`. The tests compare it with torch's own ``FlopCounterMode``, which stands a layer deeper: there it would
see every call by itself, at a higher price, and make some of them take another way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from math import prod
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bfc_core.flops import algebra

_current: ContextVar["FlopCounter | None"] = ContextVar("flop_counter", default=None)


class FlopCounter(TorchFunctionMode):
    """``with FlopCounter() as counter:`` and then ``counter.flops``; of this thread only, on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self._token: Token[FlopCounter | None] | None = None

    def __enter__(self) -> Self:
        """Begin to count."""
        self._token = _current.set(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count no more; what was counted stands, also where an error ended it."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        assert self._token is not None
        _current.reset(self._token)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the call answers
        """Do what was asked, and add what it cost."""
        answer = func(*args, **(kwargs or {}))
        flops_of = _FLOPS.get(func)
        if flops_of is not None:
            self.flops += flops_of(args, kwargs or {}, answer)
        return answer


def charge(flops: int) -> None:
    """Add work that torch does not see to the counter that runs, if one does."""
    counter = _current.get()
    if counter is not None:
        counter.flops += flops


@contextmanager
def charged(flops: int) -> Iterator[None]:
    """What happens inside costs ``flops``, however much of it is computed, lent or invisible."""
    counter = _current.get()
    before = 0 if counter is None else counter.flops
    yield
    if counter is not None:
        counter.flops = before + flops


_Count = Callable[[Sequence[Any], Mapping[str, Any], Any], int]


def _product(args: Sequence[Any], kwargs: Mapping[str, Any], answer: Tensor) -> int:  # noqa: ARG001 - as all
    """Every number of the answer is an inner product."""
    return algebra.product(answer.numel(), args[0].shape[-1], 1)


def _added_product(args: Sequence[Any], kwargs: Mapping[str, Any], answer: Tensor) -> int:  # noqa: ARG001 - as all
    return algebra.product(answer.numel(), args[1].shape[-1], 1)


def _of_square(one: Callable[[int], int]) -> _Count:
    return lambda args, _kwargs, _answer: prod(args[0].shape[:-2]) * one(args[0].shape[-1])


def _of_matrix(one: Callable[[int, int], int]) -> _Count:
    return lambda args, _kwargs, _answer: prod(args[0].shape[:-2]) * one(*args[0].shape[-2:])


def _solve(args: Sequence[Any], kwargs: Mapping[str, Any], answer: Tensor) -> int:
    n = args[0].shape[-1]
    columns = answer.shape[-1] if kwargs.get("left", True) else answer.shape[-2]
    return prod(answer.shape[:-2]) * algebra.triangular_solve(n, columns)


def _two_solves(args: Sequence[Any], kwargs: Mapping[str, Any], answer: Tensor) -> int:  # noqa: ARG001 - as all
    """(L Lᵀ)⁻¹ B: forward and back."""
    n = args[1].shape[-1]
    return 2 * prod(answer.shape[:-2]) * algebra.triangular_solve(n, answer.shape[-1])


_FLOPS: dict[Callable[..., Any], _Count] = {
    **dict.fromkeys(
        (
            torch.matmul, torch.mm, torch.bmm, torch.mv, torch.dot,
            Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm, Tensor.mv, Tensor.dot,
        ),
        _product,
    ),
    **dict.fromkeys(
        (
            torch.addmm, torch.baddbmm, torch.addmv,
            Tensor.addmm, Tensor.addmm_, Tensor.baddbmm, Tensor.baddbmm_, Tensor.addmv, Tensor.addmv_,
        ),
        _added_product,
    ),
    torch.linalg.cholesky_ex: _of_square(algebra.cholesky),
    torch.linalg.eigh: _of_square(algebra.eigendecomposition),
    torch.linalg.svd: _of_matrix(algebra.singular_vectors),
    torch.linalg.svdvals: _of_matrix(algebra.singular_values),
    torch.linalg.solve_triangular: _solve,
    torch.cholesky_solve: _two_solves,
}  # fmt: skip
"""FLOPs of the calls that count, from their arguments and answer."""
