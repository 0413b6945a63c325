"""The page's sections, in order. Each module's ``section`` gives one, or None without content."""

from bench.report.contents import Contents
from bench.report.page import Gallery, Page
from bench.report.sections import (
    budget,
    comparison,
    convergence,
    questions,
    reproduce,
    sensitivity,
    settings,
    summary,
    trials,
    workloads,
)

ORDER = (
    summary,
    questions,
    convergence,
    sensitivity,
    budget,
    settings,
    comparison,
    workloads,
    trials,
    reproduce,
)


def build(contents: Contents, gallery: Gallery) -> Page:
    """The page, with its figures and tables saved on the way."""
    made = [module.section(contents, gallery) for module in ORDER]
    return Page(
        title=contents.study.name,
        facts=summary.facts(contents),
        command=f"python -m bench.report {contents.study.directory}",
        sections=[section for section in made if section is not None],
    )
