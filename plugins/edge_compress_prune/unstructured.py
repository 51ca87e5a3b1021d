"""prune.unstructured: weights go one by one, by what they are worth, and those that stay are trained by the original.

Sources: Han et al. 2015 (arXiv:1506.02626) for magnitude, Lee et al. 2021 (arXiv:2010.07611, LAMP) for one ratio for all layers,
Sun et al. 2023 (arXiv:2306.11695) for activation, Molchanov et al. 2019 (arXiv:1906.10771) for gradient, Mishra et al. 2021
(arXiv:2104.08378) for N:M, Zhu and Gupta 2017 (arXiv:1710.01878) for the schedule, Hinton et al. 2015 (arXiv:1503.02531) for the
training. Shapes stay, so only the download shrinks: zeros compress. Does not apply to quantised models and to models that the
bridge cannot take; ``prune.magnitude`` does the same without any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_compress.graph.bridge import to_onnx, to_torch, unknown
from edge_compress.plugin import (
    Context,
    DeviceProfileSpec,
    Ensures,
    Expectation,
    ModelFacts,
    Requires,
    Strategy,
    Support,
    param,
)
from edge_compress_prune.magnitude import PRUNED_OPS, MagnitudeParams, PruneMagnitude
from edge_compress_prune.schedule import Schedule

if TYPE_CHECKING:
    import onnx

    from edge_compress.graph.bridge.training import Course


@dataclass(frozen=True)
class UnstructuredParams:
    """How many weights go, which, and how the rest is trained. ``pattern`` outranks ``threshold``, which outranks ``ratio``."""

    ratio: float = param("share of the weights that become zero", default=0.6, minimum=0.0, maximum=0.99)
    threshold: float | None = param(
        "instead: every weight worth less becomes zero; with importance magnitude that is the weight's size",
        default=None, minimum=0.0,
    )  # fmt: skip
    pattern: str = param(
        "instead: keep the N most important of each M weights that follow each other along the input, written N:M", default=""
    )
    scope: str = param(
        "ratio within each layer, or for all layers together (LAMP)", default="global", choices=("layer", "global")
    )
    importance: str = param(
        "what a weight is worth: its magnitude, that times the length of the activations it multiplies, or by how much the "
        "answers change in proportion to it (gradient)",
        default="magnitude",
        choices=("magnitude", "activation", "gradient"),
    )
    schedule: Schedule = param("when weights go, and how long the rest is trained", default=Schedule(kind="agp"))
    batch: int = param("samples that a training step sees", default=64, minimum=1, maximum=4096, unit="samples")
    lr: float = param("highest learning rate", default=2e-3, minimum=1e-7, maximum=1.0)
    optimizer: str = param("what takes the steps", default="adamw", choices=("adamw", "sgd"))
    temperature: float = param("softness of the teacher's answers", default=4.0, minimum=0.1, maximum=100.0)
    label_weight: float = param("share of the loss that follows the labels", default=0.0, minimum=0.0, maximum=1.0)
    exclude: tuple[str, ...] = param("names of layers that stay whole, as the record tells them", default=())

    def __post_init__(self) -> None:
        _ = self.untrained  # refuses a pattern that is none

    @property
    def untrained(self) -> MagnitudeParams:
        """How many weights go, as ``prune.magnitude`` says it. Raises InvalidSpec for a pattern that is none."""
        return MagnitudeParams(self.ratio, self.threshold, self.scope, self.pattern)


class PruneUnstructured(Strategy[UnstructuredParams]):
    """Unstructured and N:M pruning with distillation from the original."""

    name = "prune.unstructured"
    version = "2"
    stage = "sparsity"
    patience = 1
    Params = UnstructuredParams
    requires = Requires(training=True, calibration=True, float_model=True)
    ensures = Ensures()
    libraries = ("onnx", "onnxruntime", "numpy", "torch")

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes where there are weights to set to zero and every operator has a torch form."""
        if model.quantized:
            return Support.no("the model is quantised already: prune first")
        if not any(layer.op in PRUNED_OPS and layer.weight_count for layer in model.layers):
            return Support.no(f"no {', '.join(PRUNED_OPS)} of the model has weights")
        if missing := unknown(model.ops):
            return Support.no(f"no trainable form for {', '.join(missing)}")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[UnstructuredParams]:
        """Only where the download counts: nothing else gets better."""
        if not profile.link.metered and profile.link.bandwidth is None:
            return []
        return [UnstructuredParams()]

    def expect(self, model: ModelFacts, params: UnstructuredParams) -> Expectation:
        """As without training: what stays is no smaller for it."""
        return PruneMagnitude().expect(model, params.untrained)

    def apply(self, model: onnx.ModelProto, params: UnstructuredParams, context: Context) -> onnx.ModelProto:
        """Prune and train, round by round. Raises Unsupported where the bridge cannot take the model, ValueError where there is
        nothing to prune or an excluded name is unknown."""
        from edge_compress_prune.unstructured_course import thin_out

        imported = to_torch(model)
        thin_out(imported, params, _course(params), context)
        return to_onnx(imported, model)


def _course(params: UnstructuredParams) -> Course:
    from edge_compress.graph.bridge.training import Course

    epochs = params.schedule.epochs
    names = ("batch", "lr", "optimizer", "temperature", "label_weight")
    return Course(epochs=-1.0 if epochs is None else epochs, **{name: getattr(params, name) for name in names})
