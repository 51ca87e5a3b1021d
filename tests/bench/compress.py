"""Us and the peers side by side: ``make bench-compress``, or ``python -m tests.bench.compress [--only MODEL] [--quick] [--zoo]``.

For each model: onnxruntime's quantiser by default and by its best practice, NNCF, and ``edge-compress compress`` twice, without
training data (seconds) and with it and a budget (``--quick`` leaves that out). Everything is judged here, by the same code, on
test samples that nobody has seen. Files and reports stay in build/bench/.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnxruntime

from tests.bench import judge, zoo
from tests.bench.cases import ROOT, Case, shared
from tests.bench.peers import PeerFailed, peers
from tests.bench.product import WISHES, ProductFailed, Wish, compressed
from tests.bench.table import Row, failures, lines, verdicts, worse

KEPT = ROOT / "build" / "bench"
UNTRAINED = tuple(wish for wish in WISHES if "int8" in wish.precisions)


@dataclass(frozen=True)
class File:
    """Something to judge: a file, or why there is none."""

    method: str
    path: Path | None
    seconds: float = 0.0
    why: str = ""
    recipe: str = ""
    ours: bool = False
    failed: tuple[str, ...] = ()


def processor() -> tuple[str, frozenset[str]]:
    """Its name, and which of the features that decide about int8 it has."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    flags = next((value.split() for key, value in fields.items() if key.strip() == "flags"), [])
    name = next((value.strip() for key, value in fields.items() if key.strip() == "model name"), platform.machine())
    return name, frozenset(flags) & {"avx2", "avx512f", "avx_vnni", "avx512_vnni"}


def of_peers(case: Case, folder: Path, *, dot_product: bool) -> Iterator[File]:
    """The original and what each peer makes of it."""
    yield File("float", case.path)
    for method, make in peers(dot_product=dot_product).items():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            try:
                made = make(case, Path(scratch))
                path = Path(shutil.copyfile(made, folder / f"{method.replace(' ', '-')}.onnx"))
            except PeerFailed as error:
                yield File(method, None, why=str(error))
                continue
        yield File(method, path, time.perf_counter() - started)


def of_ours(
    case: Case, folder: Path, label: str, wishes: Iterable[Wish], *, dot_product: bool, training: bool, budget: str | None
) -> Iterator[File]:
    """What our product chooses for each wish; ``label`` says how it was run."""
    wishes = tuple(wishes)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            made = compressed(case, Path(scratch), wishes, dot_product=dot_product, training=training, budget=budget)
        except ProductFailed as error:
            yield from (File(f"{wish.name}{label}", None, why=str(error), ours=True) for wish in wishes)
            return
        shutil.copyfile(Path(scratch) / "report.json", folder / f"report{label}.json")
        shutil.copyfile(Path(scratch) / "out" / "report.html", folder / f"report{label}.html")
        for item in made.values():
            method, path = f"{item.wish.name}{label}", None
            if item.file is not None:
                path = Path(shutil.copyfile(item.file, folder / f"{method}.onnx"))
            why = "" if path is not None else f"{item.verdict}: no artifact"
            recipe = item.recipe if item.verdict == "FEASIBLE" else f"{item.verdict}: {item.recipe}"
            yield File(method, path, item.seconds, why, recipe, True, item.failed)


def judged(case: Case, files: Iterable[File]) -> list[Row]:
    """Every file measured against the first, which is the original."""
    rows, right, loaded = [], {}, {}
    inputs = case.preprocess(case.test.samples)
    for file in files:
        row = Row(case.name, file.method, file.ours, seconds=file.seconds, why=file.why, recipe=file.recipe, failed=file.failed)
        if file.path is not None:
            try:
                right[file.method] = judge.right(file.path, inputs, case.test.labels)
            except Exception as error:  # onnxruntime refuses the file: that is its result
                row = replace(row, why=f"does not run: {error}".splitlines()[0])
            else:
                loaded[file.method] = file.path
                size = judge.sizes(file.path)
                row = replace(row, disk=size.disk, download=size.download, zstd19=size.zstd19)
        rows.append(row)
    seconds = judge.latencies(loaded, inputs)
    return [_complete(row, right, seconds) if row.method in loaded else row for row in rows]


def _complete(row: Row, right: dict[str, judge.Array], seconds: dict[str, float]) -> Row:
    lost = judge.drop(right["float"], right[row.method])
    taken = seconds[row.method]
    top1 = 100 * float(right[row.method].mean())
    return replace(
        row, top1=top1, drop=lost.points, margin=lost.margin, latency=taken / seconds["float"], milliseconds=taken * 1e3
    )


def compare(case: Case, *, dot_product: bool, budget: str | None) -> list[Row]:
    """Every method on one model."""
    folder = KEPT / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = list(of_peers(case, folder, dot_product=dot_product))
    files += of_ours(case, folder, "", UNTRAINED, dot_product=dot_product, training=False, budget=None)
    if budget is not None:
        files += of_ours(case, folder, f", {budget}", WISHES, dot_product=dot_product, training=True, budget=budget)
    return judged(case, files)


def main() -> None:
    """Measure and print; ``--json`` writes the rows too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--quick", action="store_true", help="without the run that trains")
    parser.add_argument("--budget", default="15m", help="for the run that trains, per model (default %(default)s)")
    parser.add_argument("--zoo", action="store_true", help="our own small networks instead of the shared models")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # what onnxruntime's quantiser remarks on every layer
    name, features = processor()
    dot_product = any("vnni" in item for item in features)
    print(f"{name}: {' '.join(sorted(features)) or 'no AVX2'}; onnxruntime {onnxruntime.__version__}, one thread", flush=True)
    print("drop ± half the width of its 95 % interval, on test samples; latency: ratio to float; * goal reached", flush=True)
    rows: list[Row] = []
    for case in zoo.cases(arguments.only) if arguments.zoo else shared():
        if arguments.only not in case.name:
            continue
        mine = compare(case, dot_product=dot_product, budget=None if arguments.quick else arguments.budget)
        note = [] if case.held_out else ["  too few samples to hold any out: chosen and judged on the same ones"]
        behind = [f"  worse than a peer: {item}" for wish in UNTRAINED[1:] for item in worse(mine, wish.name)]
        print("\n".join(["", *lines(mine), *verdicts(mine), *behind, *failures(mine), *note]), flush=True)
        rows += mine
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
