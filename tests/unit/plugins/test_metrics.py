"""Quality metrics against scikit-learn, and where they refuse or must not be fooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, roc_auc_score, top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from edge_compress.plugin import QualityMetric
from edge_compress.plugin.registry import Registry

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def metrics() -> dict[str, QualityMetric]:
    return Registry.load(only=["metrics"], strict=True).quality_metrics


def _scores(samples: int = 400, classes: int = 8, seed: int = 0) -> tuple[Array, Array]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, samples)
    scores = draw.standard_normal((samples, classes))
    scores[np.arange(samples), labels] += 1.0
    return scores.astype(np.float32), labels


def _value(metric: QualityMetric, outputs: Array, labels: Array | None = None, reference: Array | None = None) -> float:
    """As the host does it: rows of several batches, joined, then reduced."""
    parts = []
    for start in range(0, len(outputs), 64):
        taken = slice(start, start + 64)
        wanted = None if reference is None else [reference[taken]]
        rows = metric.rows([outputs[taken]], None if labels is None else labels[taken], wanted)
        assert len(rows) == len(outputs[taken])
        parts.append(rows)
    return metric.reduce(np.concatenate(parts))


def test_all_are_registered_with_what_they_need(metrics: dict[str, QualityMetric]) -> None:
    needs = {name: (item.needs_labels, item.needs_reference, item.higher_is_better) for name, item in metrics.items()}
    assert needs == {
        "top1": (True, False, True),
        "top5": (True, False, True),
        "agreement": (False, True, True),
        "cosine": (False, True, True),
        "mse": (False, True, False),
        "auc": (True, False, True),
    }


@pytest.mark.parametrize(("name", "k"), [("top1", 1), ("top5", 5)])
def test_top_k_is_scikit_learns(metrics: dict[str, QualityMetric], name: str, k: int) -> None:
    scores, labels = _scores()
    expected = top_k_accuracy_score(labels, scores, k=k)
    assert 0.2 < expected < 1
    assert _value(metrics[name], scores, labels) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["top1", "top5", "agreement"])
def test_shares_have_closed_intervals(metrics: dict[str, QualityMetric], name: str) -> None:
    assert type(metrics[name]).reduce is QualityMetric.reduce


def test_equal_scores_go_to_the_lower_class(metrics: dict[str, QualityMetric]) -> None:
    scores = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]], np.float32)
    assert metrics["top1"].rows([scores], np.array([0, 1]), None).tolist() == [1, 0]


def test_a_model_that_answers_all_the_same_is_not_right(metrics: dict[str, QualityMetric]) -> None:
    scores, labels = _scores(classes=10)
    assert _value(metrics["top1"], np.zeros_like(scores), labels) == pytest.approx((labels == 0).mean())
    assert _value(metrics["top5"], np.zeros_like(scores), labels) == pytest.approx((labels < 5).mean())


@pytest.mark.parametrize("name", ["top1", "top5", "agreement"])
def test_nan_is_never_right(metrics: dict[str, QualityMetric], name: str) -> None:
    scores, labels = _scores(classes=10)
    assert _value(metrics[name], np.full_like(scores, np.nan), labels, scores) == 0


def test_pixels_and_tokens_are_averaged_over_a_sample(metrics: dict[str, QualityMetric]) -> None:
    pixels = np.zeros((2, 3, 2, 2), np.float32)
    pixels[:, 1] = 1
    labels = np.array([[[1, 1], [1, 0]], [[0, 0], [2, 2]]])
    assert metrics["top1"].rows([pixels], labels, None).tolist() == [0.75, 0]
    tokens = np.moveaxis(pixels, 1, -1).reshape(2, 4, 3)
    assert metrics["top1"].rows([tokens], labels.reshape(2, 4), None).tolist() == [0.75, 0]
    assert metrics["agreement"].rows([tokens], None, [tokens]).tolist() == [1, 1]


def test_a_single_score_is_a_probability(metrics: dict[str, QualityMetric]) -> None:
    scores, labels = np.array([[0.9], [0.2], [0.6]], np.float32), np.array([1, 0, 0])
    assert metrics["top1"].rows([scores], labels, None).tolist() == [1, 1, 0]
    assert metrics["top1"].rows([scores[:, 0]], labels, None).tolist() == [1, 1, 0]


def test_labels_that_do_not_fit_the_output_are_refused(metrics: dict[str, QualityMetric]) -> None:
    with pytest.raises(ValueError, match=r"read labels of shape \(2, 2\), expected \(2,\)"):
        metrics["top1"].rows([np.zeros((2, 3))], np.zeros((2, 2), int), None)
    with pytest.raises(ValueError, match="top1 needs labels"):
        metrics["top1"].rows([np.zeros((2, 3))], None, None)


def test_agreement_counts_equal_decisions(metrics: dict[str, QualityMetric]) -> None:
    scores, _ = _scores()
    changed = scores.copy()
    changed[:100] = -changed[:100]
    expected = (scores.argmax(1) == changed.argmax(1)).mean()
    assert _value(metrics["agreement"], changed, None, scores) == pytest.approx(expected)


def test_single_numbers_agree_when_they_are_close(metrics: dict[str, QualityMetric]) -> None:
    reference, ours = np.array([[100.0], [100.0], [0.0], [0.0]]), np.array([[104.0], [106.0], [0.04], [0.06]])
    assert metrics["agreement"].rows([ours], None, [reference]).tolist() == [1, 0, 1, 0]


def test_cosine_is_scikit_learns(metrics: dict[str, QualityMetric]) -> None:
    ours, theirs = _scores(seed=1)[0], _scores(seed=2)[0]
    expected = np.diag(cosine_similarity(ours, theirs)).mean()
    assert _value(metrics["cosine"], ours, None, theirs) == pytest.approx(expected, abs=1e-6)
    assert _value(metrics["cosine"], 3 * theirs, None, theirs) == pytest.approx(1)


def test_cosine_survives_zeros_and_extremes(metrics: dict[str, QualityMetric]) -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert metrics["cosine"].rows([zero], None, [zero]).tolist() == [1]
    assert metrics["cosine"].rows([zero], None, [one]).tolist() == [0]
    assert metrics["cosine"].rows([one * 1e300], None, [one * 1e-300]) == pytest.approx(1)


def test_cosine_of_single_numbers_is_refused(metrics: dict[str, QualityMetric]) -> None:
    with pytest.raises(ValueError, match="one number a sample, which has no direction"):
        metrics["cosine"].rows([np.ones((2, 1))], None, [np.ones((2, 1))])


def test_mse_is_scikit_learns_against_the_original(metrics: dict[str, QualityMetric]) -> None:
    ours, labels = _scores(seed=1)
    theirs = _scores(seed=2)[0]
    assert _value(metrics["mse"], ours, labels, theirs) == pytest.approx(mean_squared_error(theirs, ours), rel=1e-6)
    assert _value(metrics["mse"], theirs, None, theirs) == 0


def test_mse_is_against_targets_where_there_are_such(metrics: dict[str, QualityMetric]) -> None:
    draw = np.random.default_rng(0)
    ours, targets = draw.standard_normal((200, 1)), draw.standard_normal(200)
    assert _value(metrics["mse"], ours, targets, ours) == pytest.approx(mean_squared_error(targets, ours[:, 0]))


@pytest.mark.parametrize("decimals", [6, 1, 0])
def test_auc_of_two_classes_is_scikit_learns_with_ties(metrics: dict[str, QualityMetric], decimals: int) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 300)
    scores = np.round(labels + draw.standard_normal(300), decimals)
    expected = roc_auc_score(labels, scores)
    assert 0.6 < expected < 0.9
    assert _value(metrics["auc"], scores[:, None], labels) == pytest.approx(expected)
    assert _value(metrics["auc"], scores, labels) == pytest.approx(expected)
    assert _value(metrics["auc"], np.stack([-scores, np.zeros(300)], axis=1), labels) == pytest.approx(expected)


def test_auc_of_many_classes_is_scikit_learns(metrics: dict[str, QualityMetric]) -> None:
    scores, labels = _scores(classes=5)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    assert _value(metrics["auc"], shares, labels) == pytest.approx(expected)
    assert _value(metrics["auc"], scores, labels) == pytest.approx(expected)


def test_auc_of_many_classes_is_right_with_ties(metrics: dict[str, QualityMetric]) -> None:
    """Shares of eighths are exact, and most of them tie."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 300)
    shares = np.stack([draw.multinomial(8, np.where(np.arange(4) == label, 0.4, 0.2)) for label in labels]) / 8
    expected = roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    assert _value(metrics["auc"], shares, labels) == pytest.approx(expected)


def test_auc_without_anything_to_tell_apart_is_no_number(metrics: dict[str, QualityMetric]) -> None:
    assert np.isnan(_value(metrics["auc"], np.zeros((5, 2)), np.zeros(5, int)))
    assert np.isnan(_value(metrics["auc"], np.zeros((5, 3)), np.zeros(5, int)))


def test_auc_of_a_broken_model_is_the_worst(metrics: dict[str, QualityMetric]) -> None:
    assert _value(metrics["auc"], np.full((6, 1), np.nan), np.array([0, 1] * 3)) == 0


def test_agreement_looks_at_every_output(metrics: dict[str, QualityMetric]) -> None:
    scores, kinds = np.eye(4, dtype=np.float32), np.array([40, 41, 42, 43])
    rows = metrics["agreement"].rows([scores, np.array([40, 41, 43, 43]), kinds > 41], None, [scores, kinds, kinds > 40])
    assert rows.tolist() == pytest.approx([1, 2 / 3, 2 / 3, 1]), "whole numbers and truth values agree where they are equal"
    found = metrics["agreement"].rows([scores, np.zeros((4, 2))], None, [scores, np.zeros((4, 3))])
    assert found.tolist() == [0.5] * 4, "an output of another shape is another decision"
