"""What mkdocs is told beside mkdocs.yml. The pages are written for the forge, too, where they link
to source files; on the site such a link is its text, which names the file anyway."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>\.\.?/[^)#\s]*)(?:#[^)]*)?\)")


def on_page_markdown(markdown, page, config, files):
    here = Path(page.file.abs_src_path).parent

    def outside(link):
        target = (here / link["target"]).resolve()
        within = target.is_relative_to(DOCS) and (target.is_file() or target.suffix == ".md")
        if within or not target.exists():  # what does not exist is mkdocs' to warn of
            return link[0]
        return link["text"]

    return LINK.sub(outside, markdown)


def on_config(config):
    """The optimizers' pages, in the order of their rules."""
    from optimizers.rules import RULES

    (section,) = (entry for entry in config.nav if "Optimizers" in entry)
    section["Optimizers"] = ["optimizers/README.md", *(f"optimizers/{name}.md" for name in RULES)]
    return config
