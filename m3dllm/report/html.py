"""A report as one page: self-contained, without network access, and safe against any name in a run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from m3dllm.files import read_text
from m3dllm.report.layout import Bullets, Facts, Forest, Plot, Report, Table, Text
from m3dllm.report.svg import inline_svg

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = Path(__file__).parent / "template"


def html(report: Report) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def drawn(figure: Forest | Plot) -> Markup:
        return Markup(inline_svg(figure))  # noqa: S704  (it escapes every text)

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = _kind
    environment.filters["slots"] = _slots
    environment.filters["begins"] = _begins
    environment.filters["ems"] = _ems
    environment.filters["breakable"] = _breakable
    environment.filters["svg"] = drawn
    environment.filters["is_again"] = partial(_is_again, report)
    style, script = (Markup(f"\n{read_text(TEMPLATE / name)}\n") for name in ("report.css", "report.js"))  # noqa: S704
    template = environment.get_template("report.html")
    return template.render(report=report, style=style, script=script, policy=_policy(script)) + "\n"


def _policy(script: str) -> str:
    """The content security policy: only the page's own script may run, identified by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _kind(block: object) -> str:
    kinds: Mapping[type, str] = {
        Text: "text",
        Facts: "facts",
        Bullets: "bullets",
        Table: "table",
        Forest: "figure",
        Plot: "figure",
    }
    return kinds[type(block)]


def _is_again(report: Report, figure: Forest | Plot) -> bool:
    """Whether the overview has the same figure already, so that it is not printed again."""
    seen = [block for block in report.glance.blocks if isinstance(block, Forest)]
    return any(replace(block, name=figure.name, title=figure.title) == figure != block for block in seen)


def _begins(table: Table) -> set[int]:
    """The columns at which a new group of columns begins: they get more space before them."""
    groups = [column.group for column in table.columns]
    return {i for i, (before, group) in enumerate(pairwise(groups), start=1) if before and group and before != group}


def _slots(table: Table) -> list[int]:
    """For each column, the width of its small print in letters, so that numbers stay aligned."""
    return [max((len(row.cells[i].small) for row in table.rows), default=0) for i, _ in enumerate(table.columns)]


def _ems(table: Table) -> float:
    """The approximate minimum width of the table in ems: wide tables are printed smaller, as paper does not scroll."""
    letters = 0.0
    for i, (column, slot) in enumerate(zip(table.columns, _slots(table), strict=True)):
        longest = max((len(row.cells[i].text) for row in table.rows), default=0)
        if column.number:
            letters += max(longest, *map(len, _pieces(column.title))) + (0.8 * (slot + 1) if slot else 0)
        else:
            letters += min(longest, 24)
    return 0.64 * letters + 0.9 * len(table.columns)


def _pieces(title: str) -> list[str]:
    """The pieces of a heading between which a line may break."""
    return [piece for word in title.split(" ") for piece in re.findall(r"[^=_./-]*[=_./-]*", word)]


def _breakable(title: str) -> Markup:
    """A heading with optional line breaks between the words of a name."""
    from markupsafe import Markup

    pieces = re.findall(r"[^=_./-]+[=_./-]*|[=_./-]+", title)
    return Markup("<wbr>").join(pieces)
