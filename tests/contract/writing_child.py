"""Writes to a store until it is killed, and says on stdout what was acknowledged. Run by ``test_store``.

Arguments: ``module:function`` that opens the store, its folder, how many threads write, the round (part of every name).
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
from pathlib import Path

from edge_compress.store.interface import Store, UsageKey, UsageTotals


def write_for_ever(store: Store, writer: str) -> None:
    upload = hashlib.sha256(writer.encode()).hexdigest()
    store.apply("Counter", writer, labels={}, spec={})
    twins = [store.apply("Twin", f"{writer}-{one}", labels={}, spec={})[0].name for one in "ab"]
    for number in range(1_000_000):
        name = f"{writer}-{number}"
        store.apply("Model", name, labels={"writer": writer}, spec={"number": number})
        store.set_status("Counter", writer, {"number": number})
        store.set_statuses("Twin", {twin: {"number": number} for twin in twins})
        store.put_step(name, {"number": number})
        store.put_usage([(UsageKey(writer, "boot", "p", "m", "v"), UsageTotals({"ok": number}))])
        store.blobs.put_bytes(name.encode())
        store.blobs.append(upload, store.blobs.partial(upload), b"x" * 100)
        store.blobs.sync_partial(upload)
        os.write(1, f"{writer} {number}\n".encode())


def main() -> None:
    opener, folder, threads, lap = sys.argv[1:]
    module, _, function = opener.partition(":")
    store = getattr(importlib.import_module(module), function)(Path(folder))
    for number in range(int(threads)):
        threading.Thread(target=write_for_ever, args=(store, f"w{lap}-{number}")).start()


if __name__ == "__main__":
    main()
