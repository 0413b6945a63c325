"""`python docs/tools/rule_pages.py` writes what docs/optimizers takes from the rules: the text of
each, its hyperparameters with what they accept, the options of all; and which figures of
docs/results show it. What stands between
`<!-- NAME -->` and `<!-- end -->` is written, everything else is left as it is."""
# ruff: noqa: RUF001 -- the pages have signs of their own

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path

from optimizers import rules
from optimizers.rule import OPTIONS, Decoupled, Hyperparameter, Rule
from optimizers.rules import RULES

PLACE = Path(__file__).parents[1] / "optimizers"
RESULTS = PLACE.parent / "results"
COARSE = RESULTS / "quickstart"
METHODS = ("coefficients", "update", "iterate")


def current(page: Path, parts: Mapping[str, str]) -> str:
    """The page with its parts as they should be."""
    text = page.read_text(encoding="utf-8")
    for name, content in parts.items():
        mark = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(mark, rf"\g<1>\n{escaped(content)}\n\n\g<2>", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{page}: {count} parts are marked <!-- {name} -->, not one")
    return text


def escaped(content: str) -> str:
    return content.replace("\\", r"\\")


def parts_of(rule: type[Rule]) -> dict[str, str]:
    (name,) = (name for name, other in RULES.items() if other is rule)
    return {
        "rule": rule_text(rule),
        "sensitivity": sensitivity(name),
        "keys": table(rule.hyperparameters),
    }


def sensitivity(name: str) -> str:
    """The figures among the results that have a line of this name: their text is text."""
    figures = [
        figure
        for figure in sorted(RESULTS.rglob("lr_sensitivity_*.svg"))
        if f">{name}<" in figure.read_text(encoding="utf-8") and COARSE not in figure.parents
    ]
    shown = [
        f"![Score against learning rate: {figure.stem[15:]}]({figure.relative_to(PLACE.parent)})"
        for figure in figures
    ]
    if not shown:
        return f"None of the [results](../results/README.md) has {name} yet."
    pictures = "\n".join(shown).replace("(results", "(../results")
    return f"{pictures}\n\nFrom the [results](../results/README.md), where what they say is told."


def rule_text(rule: type[Rule]) -> str:
    """Docstring, slots and maths, as they stand in the source."""
    doc = inspect.getdoc(rule) or ""
    methods = [source(rule, name) for name in METHODS if own(rule, name)]
    slots = [f"    slots = {json.dumps(list(rule.slots))}"] if rule.slots else []
    head = f"class {rule.__name__}({', '.join(base.__name__ for base in rule.__bases__)}):"
    whole = "\n".join([head, "\n\n".join(slots + methods)])
    maths = "\n\n\n".join([whole, *(inspect.getsource(h).strip() for h in helpers(methods))])
    decay = "decoupled" if issubclass(rule, Decoupled) else "L2, in the gradient"
    return (
        f"{doc}\n\n```py\n{maths}\n```\n\n"
        f"Weight decay: {decay}. State: {len(rule.slots)} × the parameters."
    )


def own(rule: type[Rule], name: str) -> bool:
    """Whether the rule, or one that it is made from, says it."""
    return getattr(rule, name).__qualname__.split(".")[0] != "Rule"


def source(rule: type[Rule], name: str) -> str:
    text = inspect.getsource(getattr(rule, name)).rstrip()
    home = getattr(rule, name).__qualname__.split(".")[0]
    return text if home == rule.__name__ else f"    # {home}'s\n{text}"


def helpers(shown: list[str]) -> list:
    """Functions of the module that the text calls, and what those call."""
    found: dict[str, object] = {}
    texts = list(shown)
    while texts:
        for name in re.findall(r"(\w+)\(", texts.pop()):
            function = getattr(rules, name, None)
            if name not in found and getattr(function, "__module__", "") == rules.__name__:
                found[name] = function
                texts.append(inspect.getsource(function))  # type: ignore[arg-type]
    return list(found.values())


def table(hyperparameters: Mapping[str, Hyperparameter]) -> str:
    rows = [f"| `{n}` | {default(h)} | {h.accepted} |" for n, h in hyperparameters.items()]
    return "\n".join(["| key | default | accepted |", "|---|---|---|", *rows])


def default(declared: Hyperparameter) -> str:
    return "–" if declared.default == "" else f"`{declared.default}`"


def overview() -> str:
    def row(name: str, rule: type[Rule]) -> str:
        first = " ".join((inspect.getdoc(rule) or "").split("\n\n")[0].split())
        sentence = re.split(r"(?<=[a-z)`])[.:](?: |$)", first)[0].rstrip(".")
        return f"| [`{name}`]({name}.md) | {sentence} | {len(rule.slots)} |"

    return "\n".join(
        ["| name | | state |", "|---|---|---:|", *(row(*item) for item in RULES.items())]
    )


def pages() -> dict[Path, str]:
    """Every page that takes something from the rules, as it should be."""
    made = {PLACE / f"{name}.md": parts_of(rule) for name, rule in RULES.items()}
    made[PLACE / "README.md"] = {"overview": overview(), "options": table(OPTIONS)}
    return {page: current(page, parts) for page, parts in made.items()}


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
