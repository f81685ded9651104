"""``python -m benchmarks [NAME …]``: run comparisons, print their ratios, write their records.

Exit code 0 when every claim holds, 1 when one is missed.
"""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

import torch
from threadpoolctl import threadpool_limits

import benchmarks
from benchmarks.records import machine_facts, verdict, write_record

NO_COMPARISON = {"__main__", "timing", "records", "stack", "sizing"}


def comparisons() -> list[str]:
    """Every module of the folder that is a comparison."""
    return [
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name not in NO_COMPARISON
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparisons that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of: {', '.join(comparisons())}; default all"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of every arm")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(comparisons())
    if unknown:
        parser.error(f"no comparison {', '.join(sorted(unknown))}; there are: {', '.join(comparisons())}")
    torch.set_num_threads(options.threads)
    print(f"machine: {machine_facts()}", file=sys.stderr)  # noqa: T201 - a command's output
    missed = False
    for name in options.names or comparisons():
        module = importlib.import_module(f"benchmarks.{name}")
        # Every library keeps to the same threads: scikit-learn's linear algebra is not torch's.
        with threadpool_limits(options.threads):
            result = module.measure(options.repetitions)
        for found in result.ratios:
            spread = f"{min(found.values):.3g} … {max(found.values):.3g}"
            print(f"{name}: {found.name}: {found.median:.3g} ({spread}) {verdict(found)}", flush=True)  # noqa: T201
            missed |= found.holds is False
        if not options.no_record:
            print(f"{name}: {write_record(name, module.CLAIM, result)}", flush=True)  # noqa: T201
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
