"""Sphinx extension that generates parts of the documentation from the code.

The directive `{generated} NAME ARGUMENTS` in a page inserts Markdown that a function of `facts` returns. The pages of
the Python reference and of the settings are written before any page is read.
"""

import inspect
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import facts
import notebooks
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import flax_agnews

_KINDS = ("Functions", "Classes", "Errors", "Values", "Strategies")
_ROOT = Path(__file__).resolve().parents[2]
_RESULTS, _NOTEBOOK = _ROOT / "benchmarks" / "results", _ROOT / "examples" / "quickstart.ipynb"


class Generated(SphinxDirective):
    """The directive `generated`, which inserts Markdown that a function of `facts` returns."""

    required_arguments = 1
    optional_arguments = 3

    def run(self) -> list[nodes.Node]:
        """The nodes of the Markdown."""
        name, *rest = self.arguments
        self.env.note_reread()  # Sphinx doesn't notice changes of the code
        return self.parse_text_to_nodes(facts.DIRECTIVES[name](*rest))


def kind_of(value: Any) -> str:
    """The group of the Python reference that a public name belongs to."""
    if inspect.isclass(value):
        return "Errors" if issubclass(value, BaseException) else "Classes"
    if isinstance(value, flax_agnews.Entry):
        return "Strategies"
    return "Functions" if inspect.isfunction(value) else "Values"


def write_reference(folder: Path) -> None:
    """A page for each public name, and the list of them."""
    groups: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name in sorted(flax_agnews.__all__, key=str.lower):
        value = getattr(flax_agnews, name)
        kind = kind_of(value)
        groups[kind].append(name)
        if kind == "Strategies":
            continue
        call = {"Functions": "autofunction", "Classes": "autoclass", "Errors": "autoexception"}.get(kind, "autodata")
        option = "   :no-value:\n" if call == "autodata" else _without_defaults(value)
        write(folder / f"{name}.rst", f"{name}\n{'=' * len(name)}\n\n.. {call}:: flax_agnews.{name}\n{option}")
    lines = ["# Python reference", "", facts.REFERENCE, ""]
    for kind, names in groups.items():
        start = "/strategies/" if kind == "Strategies" else ""
        rows = [f"| {{doc}}`{name} <{start}{name}>` | {summary_of(name)} |" for name in names]
        lines += [f"## {kind}", "", "| name | |", "|---|---|", *rows, ""] if names else []
    listed = "\n".join(name for kind, names in groups.items() for name in names if kind != "Strategies")
    lines += [f":::{{toctree}}\n:hidden:\n\n{listed}\n:::", ""]
    write(folder / "python.md", "\n".join(lines))


def _without_defaults(value: Any) -> str:
    """An option that leaves out a dataclass's fields with functions as defaults, which would be listed as methods."""
    functions = [] if not is_dataclass(value) else [f.name for f in fields(value) if inspect.isfunction(f.default)]
    return f"   :exclude-members: {', '.join(['__init__', '__new__', *functions])}\n" if functions else ""


def summary_of(name: str) -> str:
    """A one-sentence description of a public name: the first paragraph of its docstring, or a strategy's summary."""
    value = getattr(flax_agnews, name)
    if isinstance(value, flax_agnews.Entry):
        return value.summary
    own = kind_of(value) != "Values" or type(value).__module__.startswith("flax_agnews")
    return " ".join((value.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|") if own else ""


def write(file: Path, text: str) -> None:
    """Writes a file if its content has changed, so that unchanged pages aren't built again."""
    if not file.exists() or file.read_text("utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


def before_reading(app: Sphinx) -> None:
    """Writes the generated pages, and deletes those of names that are no longer public."""
    folder = Path(app.srcdir) / "reference" / "generated"
    keep = {*(f"{name}.rst" for name in flax_agnews.__all__), "python.md", "settings.md", "notebook.md"}
    for file in [*folder.glob("*.rst"), *folder.glob("*.md")]:
        if file.name not in keep:
            file.unlink()
    write_reference(folder)
    write(folder / "settings.md", facts.settings_page())
    write(folder / "notebook.md", notebooks.page(_NOTEBOOK, folder))
    for file in _RESULTS.glob("*.md"):
        picture = file.with_suffix(".png")
        text, place = file.read_text("utf-8"), f"/../benchmarks/results/{picture.name}"
        if f"({picture.name})" in text:  # the page shows its picture itself
            text = text.replace(f"({picture.name})", f"({place})")
        elif picture.exists():
            text += f"\n```{{image}} {place}\n```\n"
        write(folder / "results" / file.name, text)
    for file in _RESULTS.glob("*.html"):  # pages of their own, to which results link
        write(folder / "results" / file.name, file.read_text("utf-8"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive and the generated pages."""
    app.add_directive("generated", Generated)
    app.connect("builder-inited", before_reading)
    return {"parallel_read_safe": True}
