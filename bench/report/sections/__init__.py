"""The page's sections, in order. Each module's ``section`` gives one, or None without content."""

from bench.report.contents import Contents
from bench.report.joined import Joined
from bench.report.page import Gallery, Page, Panel, Section
from bench.report.sections import (
    budget,
    comparison,
    convergence,
    differences,
    landscapes,
    questions,
    reproduce,
    sensitivity,
    settings,
    summary,
    trials,
    workloads,
)

ORDER = (
    differences,
    summary,
    questions,
    convergence,
    landscapes,
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
    sections = [section for section in made if section is not None]
    return Page(
        title=contents.study.name,
        facts=summary.facts(contents),
        headline=_headline(contents),
        front=_front(sections),
        command=reproduce.report_command(contents.study),
        sections=sections,
    )


def _headline(contents: Contents) -> str:
    if isinstance(contents.study, Joined) and (said := differences.headline(contents)):
        return said
    return summary.headline(contents)


def _front(sections: list[Section]) -> list[Panel]:
    """What was varied, and how each converges: the first figure of each, so the first workload's"""
    first = {
        section.anchor: next((panel for block in section.blocks for panel in block.panels), None)
        for section in sections
    }
    varied = next(
        filter(None, map(first.get, ("differences", "varied", "sensitivity", "settings"))), None
    )
    return [panel for panel in (varied, first.get("convergence")) if panel is not None]
