"""Floating-point operations: what a run cost, and what a plan expects it to.

A *FLOP* is one addition or one multiplication of a matrix product, so a multiply-add counts 2, and as many of a
factorisation or a solve as its standard algorithm takes (:mod:`bfc_core.flops.algebra` names the sources). Operations
that go entry by entry, sums and random numbers are not counted: beside products they are a few per cent. Where there is
nothing else (pixels of convolutional kernels, scikit-learn's trees and sparse paths) a standard count stands for them.

A run is charged what it would have cost alone: the stages, grams and eigendecompositions that its pack mates or a file
lent it count as if it had made them. So the number does not depend on the pack, and an arm of a comparison shows its
whole training. What is counted is the fit, its tuning included, and one prediction of the test samples; metrics
and measurements on the way are not, they belong to who watches.

Networks are counted by the closed form of a step times the steps made (:mod:`bfc_core.flops.networks`): their steps are
too short to be watched. Everything else is watched while it runs (:mod:`bfc_core.flops.counting`, the only file here
that knows torch). Plans use closed forms throughout.
"""
