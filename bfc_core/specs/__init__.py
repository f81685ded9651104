"""The vocabulary: what may be asked and what is answered. Free of torch."""

from bfc_core.specs.base import SPEC_VERSION, Spec
from bfc_core.specs.budget import Budget
from bfc_core.specs.experiment import MAX_CELLS, ExperimentSpec, control_of
from bfc_core.specs.faults import Fault, faults_from, faults_of
from bfc_core.specs.inputs import GaussianInputs, InputSpec
from bfc_core.specs.kernels import KernelSpec, NngpKernel, NtkKernel, PolynomialKernel, RbfKernel
from bfc_core.specs.learners import (
    AlgorithmOne,
    AnyLearner,
    CorrectionWindow,
    HierarchicalLearner,
    Joint,
    KernelRidge,
    Layerwise,
    LearnerSpec,
    MatchedComputeControl,
    Recipe,
    RecursiveFeatureMachine,
    StagedLearner,
    label_of,
)
from bfc_core.specs.report import Measurement, Metrics, Outcome, Report
from bfc_core.specs.run import RunSpec
from bfc_core.specs.targets import (
    LOWEST_LEVEL,
    AnyTarget,
    HierarchicalQuadratic,
    Hierarchy,
    TargetSpec,
    WorkedExample1,
    WorkedExample2,
    default_connections,
    hierarchy_of,
    least_dim,
)

__all__ = [
    "LOWEST_LEVEL",
    "MAX_CELLS",
    "SPEC_VERSION",
    "AlgorithmOne",
    "AnyLearner",
    "AnyTarget",
    "Budget",
    "CorrectionWindow",
    "ExperimentSpec",
    "Fault",
    "GaussianInputs",
    "HierarchicalLearner",
    "HierarchicalQuadratic",
    "Hierarchy",
    "InputSpec",
    "Joint",
    "KernelRidge",
    "KernelSpec",
    "Layerwise",
    "LearnerSpec",
    "MatchedComputeControl",
    "Measurement",
    "Metrics",
    "NngpKernel",
    "NtkKernel",
    "Outcome",
    "PolynomialKernel",
    "RbfKernel",
    "Recipe",
    "RecursiveFeatureMachine",
    "Report",
    "RunSpec",
    "Spec",
    "StagedLearner",
    "TargetSpec",
    "WorkedExample1",
    "WorkedExample2",
    "control_of",
    "default_connections",
    "faults_from",
    "faults_of",
    "hierarchy_of",
    "label_of",
    "least_dim",
]
