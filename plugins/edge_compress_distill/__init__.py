"""First-party plugin: knowledge distillation into compact networks. Uses only the public plugin API.

distil.student   a fresh network of one of the architectures, trained by the user's model

How it flows through the modules: ``student`` is the strategy, ``task`` reads what a student must take and give, ``sizes`` decides
how wide it may be; ``mobilenet``, ``shufflenet`` and ``repvgg`` say which ``blocks`` follow each other, ``nets`` makes modules of
them; ``lessons`` leads the training, with samples and teacher from ``classroom`` and inner maps from ``matching``, and ``graphs``
merges what training needed apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.plugin import Architecture, Strategy, hookimpl
from edge_compress_distill.mobilenet import MobileNetV2
from edge_compress_distill.repvgg import RepVgg
from edge_compress_distill.shufflenet import ShuffleNetV2
from edge_compress_distill.student import DistilStudent


@hookimpl
def edge_compress_register_strategies() -> Sequence[Strategy[Any]]:
    """The strategy above."""
    return [DistilStudent()]


@hookimpl
def edge_compress_register_architectures() -> Sequence[Architecture]:
    """Students of any width for images of any size."""
    return [RepVgg(), MobileNetV2(), ShuffleNetV2()]
