"""Statistics of a study: its table of runs in, a tidy table out, one function a question.

``notes`` say in words what a reader must know before trusting a row. A table without an answer is
empty and has its columns. Intervals are 95%.
"""

from bench.analysis.tables.comparison import (
    Unit,
    improvements,
    interquartile_means,
    performance_profiles,
    profile_scores,
    ranks,
    times_to_target,
)
from bench.analysis.tables.differences import corrected, differences
from bench.analysis.tables.factors import factor_differences, varied
from bench.analysis.tables.tuning import (
    drawn_together,
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
    "corrected",
    "differences",
    "drawn_together",
    "expected_best",
    "factor_differences",
    "importances",
    "improvements",
    "interactions",
    "interquartile_means",
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
