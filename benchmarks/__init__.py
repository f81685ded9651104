"""Comparisons that back a claim about speed or memory: side by side in one process, repeated, recorded.

One file a comparison. ``python -m benchmarks`` runs all of them, ``python -m benchmarks NAME …`` some; ``make bench``
is the same. A comparison is a module with

    CLAIM: str                                       what must hold, in one sentence
    def measure(repetitions: int) -> Result          run the arms in turn, as often as asked

and is found by its name.
"""
