"""Writes kernel_edges.json: kernels on rows where rounding does its worst, from arithmetic with 800 digits.

Run by hand with mpmath, which no test needs: ``python tests/reference/make_kernel_edges.py``. The rows are taken as the
float64 numbers they are; every formula is written down as in the definitions (an angle by acos, a distance by
differences), and the number of digits pays for what cancels. A value beyond the largest float64 is null.
"""

import json
from collections.abc import Callable
from math import sin
from pathlib import Path

from mpmath import acos, asin, cos, exp, fsum, mp, mpf, pi, sqrt
from mpmath import sin as mp_sin

mp.dps = 800

Row = list[float]
X: Row = [sin(1 + j) for j in range(3)]
Y: Row = [sin(7 + 2.3 * j) for j in range(3)]


def times(factor: float, row: Row) -> Row:
    return [factor * value for value in row]


def nudged(row: Row, by: float) -> Row:
    return [row[0] + by, *row[1:]]


ROWS: dict[str, Row] = {
    "x": X,
    "x again": list(X),
    "-x": times(-1, X),
    "2x": times(2, X),
    "(1 + 1e-12) x": times(1 + 1e-12, X),
    "x + 1e-8": nudged(X, 1e-8),
    "-x + 1e-8": nudged(times(-1, X), 1e-8),
    "x + 1e-5": nudged(X, 1e-5),
    "x + 1e-3": nudged(X, 1e-3),
    "y": Y,
    "0": [0.0] * 3,
    "0 again": [0.0] * 3,
    "1e-5 x": times(1e-5, X),
    "1e-5 y": times(1e-5, Y),
    "1e-150 x": times(1e-150, X),
    "1e-150 y": times(1e-150, Y),
    "1e150 x": times(1e150, X),
    "1e150 x again": times(1e150, X),
    "1e150 y": times(1e150, Y),
    "1e6 x": times(1e6, X),
    "1e6 x + 1e-5": nudged(times(1e6, X), 1e-5),
    "1e6 y": times(1e6, Y),
}
PAIRS = [("x", other) for other in ROWS] + [
    ("-x + 1e-8", "2x"),
    ("0", "0 again"),
    ("1e-5 x", "1e-5 y"),
    ("1e-150 x", "1e-150 x"),
    ("1e-150 x", "1e-150 y"),
    ("1e150 x", "1e150 x again"),
    ("1e150 x", "1e150 y"),
    ("1e150 x", "1e-150 x"),
    ("1e6 x", "1e6 x + 1e-5"),
    ("1e6 x", "1e6 y"),
]
KERNELS: list[dict[str, object]] = [
    {"kind": "polynomial", "degree": 4, "offset": 1.0},
    {"kind": "rbf", "bandwidths": [0.5]},
    {"kind": "rbf", "bandwidths": [0.01]},
    {"kind": "rbf", "bandwidths": [1e-6]},
    {"kind": "laplace", "bandwidths": [2.0]},
    {"kind": "laplace", "bandwidths": [1e-6]},
    {"kind": "arc_cosine", "order": 0},
    {"kind": "arc_cosine", "order": 1},
    *(
        {"kind": kind, "activation": "relu", "depth": depth, "weight_variance": weight, "bias_variance": bias}
        for depth, weight, bias in ((1, 2.0, 0.0), (3, 2.0, 0.1), (5, 1.0, 0.0), (4, 0.01, 1.0))
        for kind in ("nngp", "ntk")
    ),
    *(
        {"kind": kind, "activation": "erf", "depth": depth, "weight_variance": 1.5, "bias_variance": bias}
        for depth, bias in ((1, 0.0), (3, 0.1))
        for kind in ("nngp", "ntk")
    ),
    *(
        {"kind": "ntk", "activation": activation, "depth": 2, "weight_variance": 0.5, "bias_variance": 0.1}
        for activation in ("quadratic", "centred_quadratic")
    ),
]


def inner(x: Row, z: Row) -> mpf:
    return fsum(mpf(a) * mpf(b) for a, b in zip(x, z, strict=True))


def squared_distance(x: Row, z: Row) -> mpf:
    return fsum((mpf(a) - mpf(b)) ** 2 for a, b in zip(x, z, strict=True))


def angle(a: mpf, q: mpf, b: mpf) -> mpf:
    """The zero vector is at a right angle to everything but itself."""
    if a == 0 or b == 0:
        return mpf(0) if a == b else pi / 2
    return acos(max(min(q / sqrt(a * b), mpf(1)), mpf(-1)))


def moments(activation: str, a: mpf, q: mpf, b: mpf) -> tuple[mpf, mpf]:
    """E φ(u)φ(v) and E φ′(u)φ′(v)."""
    if activation == "relu":
        t = angle(a, q, b)
        return sqrt(a * b) / (2 * pi) * (mp_sin(t) + (pi - t) * cos(t)), (pi - t) / (2 * pi)
    if activation == "erf":
        squares = (1 + 2 * a) * (1 + 2 * b)
        return 2 / pi * asin(2 * q / sqrt(squares)), 4 / pi / sqrt(squares - 4 * q * q)
    if activation == "quadratic":
        return a * b + 2 * q * q, 4 * q
    return q * q + (a - 1) * (b - 1) / 2, 2 * q


def network(kernel: dict, x: Row, z: Row) -> mpf:
    weight, bias = mpf(kernel["weight_variance"]), mpf(kernel["bias_variance"])
    a, q, b = (weight * inner(*pair) / len(x) + bias for pair in ((x, x), (x, z), (z, z)))
    tangent = q
    for _ in range(kernel["depth"]):
        value, slope = moments(kernel["activation"], a, q, b)
        a, b = (weight * moments(kernel["activation"], v, v, v)[0] + bias for v in (a, b))
        q = weight * value + bias
        tangent = q + weight * slope * tangent
    return tangent if kernel["kind"] == "ntk" else q


def arc_cosine(kernel: dict, x: Row, z: Row) -> mpf:
    a, q, b = inner(x, x), inner(x, z), inner(z, z)
    t = angle(a, q, b)
    if kernel["order"] == 0:
        return 1 - t / pi
    return sqrt(a * b) * (mp_sin(t) + (pi - t) * cos(t)) / pi


FORMULAS: dict[str, Callable[[dict, Row, Row], mpf]] = {
    "polynomial": lambda k, x, z: (mpf(k["offset"]) + inner(x, z) / len(x)) ** k["degree"],
    "rbf": lambda k, x, z: exp(-squared_distance(x, z) / (2 * mpf(k["bandwidths"][0]) ** 2 * len(x))),
    "laplace": lambda k, x, z: exp(-sqrt(squared_distance(x, z)) / mpf(k["bandwidths"][0])),
    "arc_cosine": arc_cosine,
    "nngp": network,
    "ntk": network,
}


def value(kernel: dict, x: Row, z: Row) -> float | None:
    exact = FORMULAS[kernel["kind"]](kernel, x, z)
    return float(exact) if abs(exact) < mpf("1e308") else None


def main() -> None:
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in ROWS.items())
    kernels = ",\n".join(
        json.dumps({"kernel": kernel, "values": [value(kernel, ROWS[a], ROWS[b]) for a, b in PAIRS]})
        for kernel in KERNELS
    )
    Path(__file__).with_name("kernel_edges.json").write_text(
        f'{{"made_by": "make_kernel_edges.py, 800 digits",\n"rows": {{\n{rows}\n}},\n'
        f'"pairs": {json.dumps(PAIRS)},\n"kernels": [\n{kernels}\n]}}\n'
    )


if __name__ == "__main__":
    main()
