"""Ten lines: an experiment from a script or a notebook. Start a stack first (`make up`), or set BFC_URL."""

import bfc_client

bfc = bfc_client.connect()
exp = bfc.experiments.create(
    name="degree 8",
    target={"kind": "hierarchical_quadratic", "widths": [3, 2], "alphas": [1, 0.1]},
    learners=[
        {"kind": "algorithm_1"},
        {"kind": "layerwise"},
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk", "depth": 3}},
    ],
    n=[2**k for k in range(9, 12)],
    dim=[16, 20],
    seeds=3,
)
exp.wait(progress=True)
for gain in exp.comparison().backward_gain:
    print(f"n {gain.n}, dim {gain.dim}: the lower level is {gain.median or 0:.1f} times better corrected")
exp.chart("comparison").save("fig1.svg")
print(exp.results().to_arrow().schema)  # .to_pandas() and .to_polars() where they are installed
