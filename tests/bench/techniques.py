"""Every technique by itself, before and after: ``make bench-techniques``, or ``python -m tests.bench.techniques [--only MODEL]``.

One recipe for each, run by ``edge-compress compress`` as a user would, on the shared ResNet-8 with its training samples and on
the zoo's transformer; judged by the bench's own code on test samples that nobody has seen. What trains shares the budget.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import zoo
from tests.bench.cases import ROOT, Case, shared
from tests.bench.compress import File, judged, processor
from tests.bench.product import INT8, Wish, declare, document, made, model_name, run_compress
from tests.bench.table import lines

Step = tuple[str, Mapping[str, Any]]
_INT8: Step = ("quantize.static", {})
_SHORT: Mapping[str, Any] = {"epochs": 8}

ON_IMAGES: Mapping[str, Sequence[Step]] = {
    "prune-magnitude-80": [("prune.magnitude", {"ratio": 0.8, "scope": "global"})],
    "prune-magnitude-2-of-4": [("prune.magnitude", {"pattern": "2:4"})],
    "prune-gradually-80": [("prune.unstructured", {"ratio": 0.8, "schedule": {"kind": "agp", **_SHORT}})],
    "prune-channels-taylor": [("prune.structured", {"macs": 0.7, "schedule": _SHORT})],
    "prune-channels-activation": [("prune.structured", {"macs": 0.7, "importance": "activation", "schedule": _SHORT})],
    "prune-channels-steps": [("prune.structured", {"macs": 0.7, "schedule": {"kind": "iterative", "rounds": 2, **_SHORT}})],
    "int8-minmax": [("quantize.static", {"mixed": False})],
    "int8-affine-entropy": [("quantize.static", {"scheme": "affine", "calibration": "entropy", "mixed": False})],
    "int8-mse-adaround": [("quantize.static", {"calibration": "mse", "rounding": "adaround", "bits": 4})],
    "int4-nearest": [("quantize.static", {"bits": 4, "rounding": "nearest", "mixed": False, "correct_bias": False})],
    "int4-mixed-compensated": [("quantize.static", {"bits": 4, "rounding": "compensated"})],
    "int8-rate": [("quantize.static", {"rate": 3.0})],
    "int8-trained-rate": [("quantize.qat", {"rate": 2.6, "epochs": 8})],
    "float16": [("quantize.float16", {})],
    "weights-8": [("quantize.weights", {"bits": 8})],
    "weights-4": [("quantize.weights", {"bits": 4})],
    "cluster-64": [("cluster.weights", {"clusters": 64})],
    "lowrank-svd": [("lowrank.svd", {"ratio": 0.3})],
    "lowrank-distilled": [("lowrank.distil", {"ratio": 0.3, **_SHORT})],
    "student-mobilenet": [("distil.student", {"architecture": "mobilenet_v2", "width": 0.2, "epochs": 12})],
    "student-shufflenet": [("distil.student", {"architecture": "shufflenet_v2", "width": 0.2, "epochs": 12})],
    "student-repvgg": [("distil.student", {"architecture": "rep_vgg", "width": 0.3, "epochs": 12})],
    "channels-then-int8": [("prune.structured", {"macs": 0.8, "schedule": _SHORT}), _INT8],
}
ON_MATRICES: Mapping[str, Sequence[Step]] = {
    "int8-smooth": [("quantize.static", {"smooth": 0.5})],
    "blocks-8": [("quantize.blocks", {"bits": 8})],
    "blocks-4": [("quantize.blocks", {"bits": 4})],
    "lowrank-svd": [("lowrank.svd", {"ratio": 0.2})],
    "int8-dynamic": [("quantize.dynamic", {})],
    "prune-neurons": [("prune.structured", {"macs": 0.8, "schedule": _SHORT})],
    "int8-trained": [("quantize.qat", {"epochs": 8})],
}


def tried(case: Case, techniques: Mapping[str, Sequence[Step]], *, dot_product: bool, budget: str) -> list[File]:
    """The original and what each technique made of it. Raises ProductFailed."""
    kept = ROOT / "build" / "techniques" / case.name
    kept.mkdir(parents=True, exist_ok=True)
    profiles = [Wish(name, INT8, "size") for name in techniques]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        declare(case, folder, profiles, dot_product=dot_product, training=True)
        _prescribe(folder / "fleet.yaml", techniques)
        told = run_compress(folder, budget)
        (kept / "report.json").write_text(told)
        entries = json.loads(told)["models"][model_name(case)]["profiles"]
        files = [File("float", case.path)]
        for profile in profiles:
            result = made(profile, entries[profile.name], folder / "out", entries[profile.name]["seconds"])
            path = None
            if result.file is not None:
                path = kept / f"{profile.name}.onnx"
                path.write_bytes(result.file.read_bytes())
            whys = [item["why"] for item in entries[profile.name]["candidates"] if item.get("why")]
            why = "" if path else "; ".join(whys) or result.verdict
            files.append(File(profile.name, path, result.seconds, why, result.recipe, ours=True))
        return files


def _prescribe(fleet: Path, techniques: Mapping[str, Sequence[Step]]) -> None:
    """Add a recipe for each technique to a fleet file that has a deployment of its name, without a limit of quality."""
    documents = [json.loads(part) for part in fleet.read_text().split("\n---\n")]
    for item in documents:
        if item["kind"] == "Deployment":
            item["spec"]["recipe"] = item["metadata"]["name"]
        if item["kind"] == "Model":
            item["spec"]["quality"]["max_drop"] = 1.0
    for name, steps in techniques.items():
        plain = [{"strategy": strategy, "params": dict(params)} for strategy, params in steps]
        documents.append(document("Recipe", name, {"steps": plain}))
    fleet.write_text("\n---\n".join(json.dumps(item) for item in documents))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Every technique by itself, before and after.")
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--budget", default="15m", help="for each model (default %(default)s)")
    arguments = parser.parse_args()
    name, features = processor()
    print(f"{name}: {' '.join(sorted(features))}; one thread; what is allowed to drop: anything", flush=True)
    images = (case for case in shared() if "resnet8" in case.name)
    matrices = zoo.cases("transformer") if arguments.only in "transformer" else iter(())
    for cases, techniques in ((images, ON_IMAGES), (matrices, ON_MATRICES)):
        for case in cases:
            if arguments.only in case.name:
                dot_product = "avx512_vnni" in features or "avx_vnni" in features
                rows = judged(case, tried(case, techniques, dot_product=dot_product, budget=arguments.budget))
                print("\n" + "\n".join(lines(rows)), flush=True)


if __name__ == "__main__":
    main()
