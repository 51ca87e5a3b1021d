"""What the user's model file becomes before anything else looks at it: ONNX. A .pt2 archive is lifted once and cached by content.

Every later step sees the lifted file only; it is the teacher, and its facts are the model's. Lifting itself is a task
(``lifting``), because such a file is nobody's friend.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from edge_compress.domain.model import ModelFacts
from edge_compress.domain.spec import FileRef, Model
from edge_compress.errors import InvalidModel, StepFailed
from edge_compress.graph.archive import is_archive
from edge_compress.store.interface import BlobStore
from edge_compress.worker.inputs import model_digest
from edge_compress.worker.settings import WorkerSettings
from edge_compress.worker.spawn import run_child
from edge_compress.worker.steps import Run, StepRunner, Work, versions_of

_LIBRARIES = ("edge-compress", "torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy")


class Originals:
    """Models as declared, with ONNX behind ``spec.source``."""

    def __init__(self, blobs: BlobStore, steps: StepRunner, settings: WorkerSettings) -> None:
        self._blobs, self._steps, self._settings = blobs, steps, settings

    def as_onnx(self, model: Model, run: Run) -> Model:
        """The model, its source lifted where it is a .pt2 archive; which it is, its bytes decide and not its name.

        Raises InvalidModel naming ``spec.source`` when it cannot be lifted, or when archives are not allowed here; Cancelled.
        """
        sha256 = model_digest(model)
        if not is_archive(self._blobs.path(sha256)):
            return model
        path = model.spec.source
        if not self._settings.allow_pt2:
            said = "read a .pt2 archive, which this server does not take; export to ONNX, or start the server with --allow-pt2"
            raise InvalidModel(said).within("spec.source", path)
        lifted = self._lifted(path, sha256, run)
        others = tuple(item for item in model.spec.files if item.path != path)
        return replace(model, spec=replace(model.spec, files=(*others, lifted)))

    def _lifted(self, path: str, sha256: str, run: Run) -> FileRef:
        limit = self._settings.max_model_bytes
        decides = {"archive": sha256, "max_bytes": limit, "versions": versions_of(_LIBRARIES)}
        arguments = {"path": str(self._blobs.path(sha256)), "max_bytes": limit}
        try:
            value = self._steps.result(Work("lift", decides, arguments, self._settings.step), run)
        except InvalidModel as error:
            raise error.within("spec.source", path) from error
        except StepFailed as error:
            raise InvalidModel(f"could not be turned into ONNX: {error}").within("spec.source", path) from error
        return FileRef(path, value["sha256"], value["bytes"])


def facts_of_file(path: Path) -> ModelFacts:
    """Facts of the user's own file, for a plan before any upload; an archive is lifted in a child.

    Raises InvalidModel, TooLarge.
    """
    from edge_compress.graph.facts import facts_of  # servers import this module and start without onnx

    if not is_archive(path):
        return facts_of(path)
    settings = WorkerSettings()
    with tempfile.TemporaryDirectory(prefix="edge-compress-") as scratch:
        arguments = {"path": str(path.absolute()), "max_bytes": settings.max_model_bytes}
        try:
            limits, cores = settings.step, frozenset(os.sched_getaffinity(0))
            child = run_child("lift", arguments, scratch_root=Path(scratch), limits=limits, cores=cores)
        except StepFailed as error:
            raise InvalidModel(f"{path.name}: could not be turned into ONNX: {error}") from error
        return facts_of(child.scratch / child.value["file"])
