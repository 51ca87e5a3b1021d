"""What a model's data files are to strategies."""

from __future__ import annotations

from edge_compress.domain.model import DataFacts
from edge_compress.domain.spec import Model
from edge_compress.worker.inputs import have


def test_labels_count_only_where_the_training_samples_have_them(digits: Model) -> None:
    labelled, bare = DataFacts(10, labelled=True), DataFacts(10, labelled=False)
    assert "labels" not in have(digits, {"training": bare, "calibration": labelled})
    assert "labels" in have(digits, {"calibration": labelled})
