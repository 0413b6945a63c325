"""What is trained. A workload of a person's own begins with a name of these."""

from bench.metrics import Metric
from bench.settings.fields import accepts
from bench.workloads.images import ImageClassifier
from bench.workloads.workload import Arrays, Examples, Workload

__all__ = ["Arrays", "Examples", "ImageClassifier", "Metric", "Workload", "accepts"]
