"""Refinements side by side: what several ask for at a time is computed at once.

A member's step takes a hundred operations of a few microseconds; ten members' steps take hardly more of them. Members
need not be at the same place: one looks at restarts on a few rows while another is refined on all. Nor need they train
the same levels: what agrees in shape is answered together.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from bfc_core.training.refinement import Asking, Equations, Fork, Question, Step, Value
from bfc_core.training.refinement_answers import answer_equations, answer_steps, answer_values

T = TypeVar("T")


@dataclass(eq=False)
class _Task:
    """Who asks for a member; ``ends`` takes the result, ``missing`` are the ends that it waits for itself."""

    asking: Asking[Any]
    member: int
    ends: Callable[[Any], None]
    missing: int = field(default=0, init=False)


class Lockstep(Generic[T]):
    """Runs ``askings`` to their ends, together, one a member.

    At most ``together`` are begun and not ended; where one ends, ``ended`` is told its number and the next begins.
    ``results`` has what each returned, None where it was not run to its end; ``flops`` what each would have cost alone.
    """

    def __init__(
        self,
        askings: Sequence[Asking[T]],
        together: int | None = None,
        ended: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.results: list[T | None] = [None] * len(askings)
        self.flops = [0] * len(askings)
        self._together, self._ended = together or len(askings), ended
        self._waiting = deque(enumerate(askings))
        self._begun = 0
        self._open: dict[_Task, Question] = {}

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Until all have ended, or ``goes_on``, which is asked before every round, answers false."""
        self._begin()
        while self._open and goes_on():
            # In the order of a step, so that those which refuse one wait for the others' next.
            self._answer(Step, answer_steps)
            self._answer(Value, answer_values)
            self._answer(Equations, answer_equations)
            self._begin()

    def _begin(self) -> None:
        while self._waiting and self._begun < self._together:
            member, asking = self._waiting.popleft()
            self._begun += 1
            self._resume(_Task(asking, member, self._ending(member)))

    def _ending(self, member: int) -> Callable[[T], None]:
        def ends(result: T) -> None:
            self.results[member] = result
            self._begun -= 1
            self._ended(member)

        return ends

    def _answer(self, kind: type[Question], answer: Callable[[list[Any]], None]) -> None:
        alike: defaultdict[Hashable, list[tuple[_Task, Question]]] = defaultdict(list)
        for task, question in self._open.items():
            if isinstance(question, kind):
                alike[question.alike].append((task, question))
        for asked in alike.values():
            answer([question for _, question in asked])
            for task, question in asked:
                self.flops[task.member] += question.of.costs[kind]
                self._resume(task)

    def _resume(self, task: _Task) -> None:
        """Run until the next question, or the end."""
        self._open.pop(task, None)
        try:
            asked = next(task.asking)
        except StopIteration as end:
            task.ends(end.value)
            return
        if not isinstance(asked, Fork):
            self._open[task] = asked
            return
        asked.answers = [None for _ in asked.askings]
        task.missing = len(asked.askings)
        for number, asking in enumerate(asked.askings):
            self._resume(_Task(asking, task.member, self._joining(task, _into(asked.answers, number))))

    def _joining(self, parent: _Task, keep: Callable[[Any], None]) -> Callable[[Any], None]:
        def ends(result: Any) -> None:  # noqa: ANN401 - whatever is asked for
            keep(result)
            parent.missing -= 1
            if parent.missing == 0:
                self._resume(parent)

        return ends


def _into(results: list[Any], number: int) -> Callable[[Any], None]:
    def keep(result: Any) -> None:  # noqa: ANN401 - whatever is asked for
        results[number] = result

    return keep


def alone(asking: Asking[T]) -> T:
    """What ``asking`` returns, run by itself."""
    lockstep = Lockstep([asking])
    lockstep.run()
    (result,) = lockstep.results
    assert result is not None
    return result
