"""The documentation's snippets run in a small form, its commands parse, and nothing is missing from it."""

import importlib
import os
import re
import shlex
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from flax_agnews.cli import arguments
from flax_agnews.config import Config, DataConfig, ModelConfig
from flax_agnews.settings.documentation import documented
from flax_agnews.strategies import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {str(file.relative_to(DOCS)): file.read_text("utf-8") for file in sorted(DOCS.glob("**/*.md"))}
PAGES = {name: text for name, text in PAGES.items() if not name.startswith(("_build", "reference/generated"))}

DATA = DataConfig(source="builtin", max_length=32, limit_train=96, limit_test=32)

# What a snippet says -> what the test runs instead: no hub, a tiny body, few texts, few updates.
SMALLER = {
    r'data="fancyzhx/ag_news"': "data=DATA",
    r'model="gpt2"': "model=MODEL, shapes=1",
    r'fa\.DataConfig\(source="fancyzhx/ag_news"\)': "DATA",
    r'fa\.ModelConfig\(name="gpt2"\)': "MODEL",
    r"fa\.TrainConfig\(": "fa.TrainConfig(shapes=1, ",
    r"(?<=\W)(epochs|runs)=\d": r"\1=1",
    r'lion, "full"': 'lion, "head"',  # compiles faster
    r"fa\.layers\(0, 6\)": "fa.layers(0, 1)",
    r"fa\.layers\(6, 12\)": "fa.layers(1, 2)",
}


def body(layers):
    """A tiny body; patterns over lower and upper layers need two."""
    return ModelConfig(from_config={"vocab_size": 400, "n_positions": 96, "n_embd": 16, "n_layer": layers, "n_head": 2})


PARSED = {**{name: name for name in ("predict", "evaluate", "cache", "export")}, "report": "report.__main__"}
"""Commands whose module has a `make_parser`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all snippets run, with what they read: data of one's own, and runs/mine of the first page."""
    path = tmp_path_factory.mktemp("documentation")
    (path / "my_texts").mkdir()
    for name, count in (("train", 40), ("test", 12)):
        rows = [f"text number {i} of {'sports' if i % 2 else 'business'},{i % 2}" for i in range(count)]
        (path / "my_texts" / f"{name}.csv").write_text("\n".join(["body,topic", *rows]), "utf-8")
    before = Path.cwd()
    os.chdir(path)
    try:
        run_page("getting_started.md")
    finally:
        os.chdir(before)
    return path


def snippets(text):
    """The Python blocks that aren't marked as not run."""
    found = re.findall(r"(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)```", text, re.S)
    return [code for marked, code in found if not marked]


def run_page(name):
    """Runs the snippets of a page, one after the other, as one program."""
    scope = {"MODEL": body(2 if "fa.layers" in PAGES[name] else 1), "DATA": DATA}
    for code in snippets(PAGES[name]):
        for pattern, small in SMALLER.items():
            code = re.sub(pattern, small, code)
        exec(compile(code, name, "exec"), scope)
    return scope


@pytest.mark.parametrize(
    "name", [name for name, text in PAGES.items() if snippets(text) and name != "getting_started.md"]
)
def test_snippets_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    run_page(name)


def test_the_first_page_runs_and_leaves_a_comparison(folder):
    assert (folder / "runs" / "mine" / "report.md").exists()


def commands():
    """(page, words) of every `flax-agnews` command in a block for the shell."""
    for name, text in PAGES.items():
        for block in re.findall(r"```bash\n(.*?)```", text, re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line)
                if words and words[0] == "flax-agnews":
                    yield pytest.param(words[1], words[2:], id=f"{name}: {' '.join(words[1:4])}")


@pytest.mark.parametrize(("command", "words"), list(commands()))
def test_commands_parse(command, words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if "<" in words:
        words = words[: words.index("<")]
    if command == "train":
        arguments.parse(words)
    else:
        importlib.import_module(f"flax_agnews.{PARSED[command]}").make_parser().parse_args(words)


def test_links_to_files_of_the_repository_hold():
    for name, text in PAGES.items():
        for file in re.findall(r"`((?:examples|benchmarks|configs|tests|flax_agnews)/[\w./]+)`", text):
            assert (ROOT / file).exists(), f"{name}: {file}"


def test_every_example_is_listed():
    listed = set(re.findall(r"`(\w+\.(?:py|ipynb))`", PAGES["examples.md"]))
    assert listed == {file.name for file in (ROOT / "examples").iterdir() if file.suffix in (".py", ".ipynb")}


def test_every_strategy_has_its_page_in_order():
    names = [entry.name for entry in REGISTRY]
    assert re.findall(r"^(\w+)$", PAGES["strategies/index.md"].split(":hidden:")[1], re.M) == names
    assert {name for name in PAGES if name.startswith("strategies/")} == {
        "strategies/index.md",
        *(f"strategies/{name}.md" for name in names),
    }


@pytest.mark.parametrize("name", [entry.name for entry in REGISTRY])
def test_a_strategys_page_says_all(name):
    text = PAGES[f"strategies/{name}.md"]
    assert f"{{generated}} strategy {name}\n" in text
    assert f"{{generated}} settings {name}\n" in text
    headings = ["When to choose it", "Defaults and their sources", "In PEFT and elsewhere", "Settings"]
    assert re.findall(r"^## (.*)$", text, re.M) == headings


@pytest.fixture(scope="module")
def extension(module_monkeypatch):
    """The module that makes facts of the code into Markdown."""
    module_monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    return importlib.import_module("facts")


@pytest.fixture(scope="module")
def module_monkeypatch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    for name in ("facts", "diagram"):
        sys.modules.pop(name, None)


def test_generated_facts_are_known(extension):
    for text in PAGES.values():
        for name in re.findall(r"```\{generated\} (\w+)", text):
            assert name in extension.DIRECTIVES


def test_every_setting_is_documented_with_a_sentence(extension):
    sections = [field.name for field in fields(Config) if is_dataclass(getattr(Config(), field.name))]
    page = extension.settings_page()
    assert re.findall(r"^## (\w+)$", page, re.M) == [*sections, "Strategies"]
    kinds = {name: type(getattr(Config(), name)) for name in sections} | {e.name: e.settings for e in REGISTRY}
    for section, kind in kinds.items():
        for setting in documented(kind):
            assert setting.text.endswith("."), f"{section}.{setting.name}"
            assert f"`{section}.{setting.name}`" in page or f"{{confval}} {section}.{setting.name}\n" in page


def test_a_picture_shows_what_trains(extension):
    page = extension.strategy("lora")
    assert page.count('class="fa-added"') == 12 + 1  # an update in each layer, and the legend
    assert page.count('class="fa-trains"') == 1 + 1  # the head
    assert "297,984 of" in page
    assert "\n\n" not in page.split("</div>")[0]  # an empty line would end the raw HTML


def test_names_of_other_programs_are_all_there(extension):
    table = extension.from_trainer()
    for name in ("num_train_epochs", "gradient_accumulation_steps", "lora_alpha"):
        assert f"`{name}`" in table
    assert "{" not in table
