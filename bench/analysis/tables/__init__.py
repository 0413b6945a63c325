"""Statistics of a study: its table of runs in, a tidy table out, one function a question.

``notes`` say in words what a reader must know before trusting a row. A table without an answer is
empty and has its columns. Intervals are 95%.
"""

from bench.analysis.tables.comparison import (
    Unit,
    improvements,
    interquartile_means,
    paired_tests,
    performance_profiles,
    profile_scores,
    ranks,
    times_to_target,
)
from bench.analysis.tables.factors import differences, varied
from bench.analysis.tables.tuning import (
    expected_best,
    importances,
    interactions,
    probability_best,
    response,
    sensitivity,
    tunability,
)

__all__ = [
    "Unit",
    "differences",
    "expected_best",
    "importances",
    "improvements",
    "interactions",
    "interquartile_means",
    "paired_tests",
    "performance_profiles",
    "probability_best",
    "profile_scores",
    "ranks",
    "response",
    "sensitivity",
    "times_to_target",
    "tunability",
    "varied",
]
