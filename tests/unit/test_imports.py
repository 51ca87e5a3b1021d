"""Who may import whom: the table of edge_compress/README.md, held against every import statement of the sources."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())
E = "edge_compress"
ZSTD = {"backports", "compression"}

CLIENT = {f"{E}.{name}" for name in ("client", "calls", "sources", "transfer", "watching", "fleet_file", "graph.external")} | {
    *(
        f"{E}.{name}"
        for name in ("api.v1", "wire", "messages", "status", "config", "domain", "errors", "encoding", "__version__")
    ),
    *("grpc", "google"),
}
"""the Python client is five modules; graph.external inlines a model's external data, imported on use"""

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "domain": {f"{E}.errors"},
    "encoding": ZSTD | {f"{E}.segments", f"{E}.layout"},
    "segments": {f"{E}.layout"},
    "simulation": {f"{E}.{name}" for name in ("api.v1", "domain", "encoding", "errors")} | {"grpc"},
    "predict": {f"{E}.api.v1", f"{E}.errors", "grpc", "numpy"},
    "layout": set(),
    "config": {f"{E}.domain", f"{E}.errors"},
    "fleet_file": {f"{E}.domain", f"{E}.errors", "yaml"},
    "graph": {f"{E}.domain", f"{E}.errors", "google.protobuf.message", "numpy", "onnx", "onnxruntime"},
    "graph.bridge": {f"{E}.domain", f"{E}.errors", "numpy", "onnx", "onnxruntime", "torch"},
    "plugin": {f"{E}.domain", f"{E}.graph", f"{E}.errors", "pluggy"},
    "store": {f"{E}.domain", f"{E}.errors"},
    "messages": {f"{E}.domain", f"{E}.errors", "google.protobuf"},
    "wire": {f"{E}.api.v1", f"{E}.domain", f"{E}.errors", f"{E}.messages", f"{E}.store.interface", "google.protobuf"},
    "status": {f"{E}.domain", f"{E}.errors", "google", "grpc", "grpc_status"},
    "exposition": {"prometheus_client"},
    "metrics": {f"{E}.domain", f"{E}.exposition", f"{E}.store.interface", f"{E}.__version__"},
    "device_metrics": {f"{E}.exposition", f"{E}.metrics"},
    "metrics_http": {f"{E}.errors", f"{E}.exposition", f"{E}.metrics", f"{E}.device_metrics"},
    "worker": {
        f"{E}.{name}" for name in ("store.interface", "plugin", "graph", "domain", "metrics", "encoding", "errors", "__version__")
    }
    | {"numpy", "onnx"},
    "worker.oneshot": {f"{E}.{name}" for name in ("store", "plugin", "graph", "domain", "errors")},
    "delivery": {
        f"{E}.{name}"
        for name in ("store.interface", "plugin", "domain", "metrics", "device_metrics", "encoding", "errors", "worker.engine")
    },
    "server": {
        f"{E}.{name}"
        for name in ("api.v1", "wire", "messages", "status", "delivery", "store.interface", "domain", "errors", "encoding")
    }
    | {
        f"{E}.plugin",
        f"{E}.config",
        f"{E}.metrics",
        f"{E}.device_metrics",
        f"{E}.worker.engine",
        f"{E}.__version__",
        "grpc",
        "google",
    }
    | ZSTD,
    "server.app": {E, "grpc", "grpc_health", "grpc_reflection"},
    "agent": {f"{E}.{name}" for name in ("api.v1", "wire", "messages", "status", "config", "domain", "errors", "encoding")}
    | {f"{E}.__version__", "grpc", "google"}
    | ZSTD,
    **dict.fromkeys(("client", "calls", "sources", "transfer", "watching"), CLIENT),
    "report_page": set(),
    "demo": {f"{E}.{name}" for name in ("client", "domain", "errors", "report_page")} | {"rich"},
    "demo.data": {f"{E}.errors", "mlxtend", "numpy"},
    "demo.train": {"onnx", "torch"},
    "cli": {E, "click", "rich", "typer", "yaml", "numpy", "onnx", "grpc"},
    "__init__": {f"{E}.client"},
    "__main__": {f"{E}.cli", f"{E}.agent"},
}
"""Module or package under edge_compress (the longest name that fits counts) -> what it may import besides the standard library
and itself. An allowed name allows everything beneath it."""

RUNTIME_IN_THE_MODEL_CHILD = {"numpy", "onnxruntime"}
"""the agent's modules that run in the child process; everything else of the agent goes without"""


def sources():
    found = [path for path in (ROOT / E).rglob("*.py") if not path.is_relative_to(ROOT / E / "api")]
    return sorted(found)


def module_of(path):
    parts = path.relative_to(ROOT / E).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(tree):
    """Every imported name; ``from a import b`` counts as a.b. What is imported for type checkers only does not run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        else:
            yield from imports_of(node)


def rule_for(module, table=ALLOWED):
    names = module.split(".")
    for length in range(len(names), 0, -1):
        if (name := ".".join(names[:length])) in table:
            return name
    raise AssertionError(f"{module} has no row in the import table: add one, here and in edge_compress/README.md")


def refused(module, tree, table=ALLOWED):
    """The imports of ``module`` that its row does not allow."""
    row = rule_for(module, table)
    own = f"{E}.{module.split('.')[0]}"
    allowed = {*table[row], own}
    bad = []
    for name in imports_of(tree):
        standard = name.split(".")[0] in sys.stdlib_module_names
        if not standard and not any(name == one or name.startswith(f"{one}.") for one in allowed):
            bad.append(name)
    return bad


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_modules_import_only_what_the_table_allows(path):
    module = module_of(path)
    bad = refused(module, ast.parse(path.read_text(encoding="utf-8")))
    if module.startswith("agent."):
        bad = [name for name in bad if name.split(".")[0] not in RUNTIME_IN_THE_MODEL_CHILD]
    assert bad == [], f"{module} may not import {', '.join(bad)}"


def test_the_table_refuses_what_it_should():
    tree = ast.parse("def f():\n    import torch\n    from edge_compress.store import sqlite\nimport json\n")
    assert refused("domain.spec", tree) == ["torch", "edge_compress.store.sqlite"]
    assert refused("worker.oneshot", tree) == ["torch"]
    with pytest.raises(AssertionError, match="no row"):
        refused("newcomer", tree)


def test_the_table_has_no_rows_for_what_is_gone():
    modules = {module_of(path) for path in sources()}
    assert {row for row in ALLOWED if row not in modules} == set()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugins_use_the_public_api_only(plugin):
    for path in (ROOT / "plugins" / plugin).rglob("*.py"):
        used = {name for name in imports_of(ast.parse(path.read_text(encoding="utf-8"))) if name.split(".")[0] == E}
        private = {name for name in used if not name.startswith((f"{E}.plugin.", f"{E}.graph."))}
        private |= {name for name in used if name.startswith(f"{E}.plugin.") and name.count(".") > 2}
        assert private == set(), f"{path.name} of {plugin}"


def test_import_linter_follows_the_chains():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"Contracts: (\d+) kept, 0 broken", done.stdout)[1]) >= 6


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("edge_compress.client", {"torch", "onnx", "onnxruntime", "pluggy", "numpy"}),
        ("edge_compress.agent.loop", {"torch", "onnx", "onnxruntime", "pluggy", "numpy"}),
        ("edge_compress.agent.runner", {"torch", "onnx", "pluggy", "grpc"}),
        ("edge_compress.server.app", {"torch", "onnx", "onnxruntime"}),
        ("edge_compress.plugin.registry", {"torch", "onnx", "onnxruntime", "grpc"}),
    ],
)
def test_processes_start_light(module, without):
    """Imported in a fresh interpreter, as the process would."""
    code = f"import sys, {module}; print(*sorted({without!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
