"""Regenerates the wire code in a scratch folder and fails when what is committed differs."""

from __future__ import annotations

import filecmp
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent


def main() -> int:
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        outs = [f"--{kind}_out={scratch}" for kind in ("python", "pyi", "grpc_python")]
        wellknown = Path(grpc_tools.__file__).parent / "_proto"
        if protoc.main(["protoc", f"-I{ROOT / 'protos'}", f"-I{wellknown}", *outs, *map(str, protos)]) != 0:
            return 1
        made = {path.relative_to(scratch): path for path in Path(scratch).rglob("*_pb2*")}
        kept = {path.relative_to(ROOT): path for path in (ROOT / "edge_compress/api").rglob("*_pb2*") if path.suffix != ".pyc"}
        wrong = sorted(str(name) for name in made.keys() ^ kept.keys())
        wrong += sorted(str(name) for name in made.keys() & kept.keys() if not filecmp.cmp(made[name], kept[name], shallow=False))
    for name in wrong:
        print(f"{name} is not what the protos generate; run `make protos`", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
