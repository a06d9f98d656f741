"""Every example runs, in its small form and without a network."""

import ast
import json
import runpy
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import flax_agnews

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOK = json.loads((EXAMPLES / "quickstart.ipynb").read_text("utf-8"))


def run(name, monkeypatch, folder, *words):
    """Runs a script as a program, in an empty folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *words])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("name", ["custom_scheme.py", "language_model_first.py", "own_csv.py", "sentence_pairs.py"])
def test_a_script_trains_and_tests(name, monkeypatch, tmp_path, capsys):
    result = run(name, monkeypatch, tmp_path, "--small")["result"]
    assert f"test accuracy {result.test.accuracy:.3f}" in capsys.readouterr().out


def test_the_sweep_draws_a_plot(monkeypatch, tmp_path):
    done = run("lora_ranks.py", monkeypatch, tmp_path, "--small")
    assert done["numbers"][0] < done["numbers"][1]
    assert (tmp_path / "lora_ranks.png").read_bytes().startswith(b"\x89PNG")


def test_results_become_frames(monkeypatch, tmp_path, trained, capsys):
    found = run("results_in_pandas.py", monkeypatch, tmp_path, str(trained))["results"]
    assert "Test accuracy by strategy" in capsys.readouterr().out
    assert set(found.runs["strategy"]) == set(found.epochs["strategy"])


def test_the_server_answers_waiting_requests_together(trained):
    serve = runpy.run_path(str(EXAMPLES / "serve.py"))
    classifier = flax_agnews.Classifier.load(trained)
    server = serve["make_server"](classifier, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        texts = [f"text number {number}" for number in range(12)]
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda text: post(address, {"texts": [text]})["answers"][0]["label"], texts))
        assert found == classifier.predict(texts).labels
        for wrong in ({"wrong": 1}, {"texts": "no list"}, {"texts": [1]}, [], None):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                post(address, wrong)
    finally:
        server.shutdown()
        server.server_close()


def post(address, value):
    request = urllib.request.Request(address, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def cells(kind):
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


def test_the_notebook_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = {
        "limit_train=2500": "limit_train=100, limit_test=60",
        "from IPython.display import Image": "Image = lambda *_, **__: None",
        "epochs=2, batch_size=32, runs=2": "epochs=1, batch_size=32, runs=1",
    }
    code = "\n".join(cells("code"))
    for large, less in small.items():
        assert large in code
        code = code.replace(large, less)
    exec(compile(code, "quickstart.ipynb", "exec"), {})
    assert (tmp_path / "runs" / "notebook" / "report.md").exists()


def test_the_notebook_has_its_output_and_is_small():
    outputs = [output for cell in NOTEBOOK["cells"] for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert (EXAMPLES / "quickstart.ipynb").stat().st_size < 200_000


@pytest.mark.parametrize("name", [*(script.name for script in SCRIPTS), "quickstart.ipynb"])
def test_examples_use_public_names_only(name):
    code = "\n".join(cells("code")) if name.endswith("ipynb") else (EXAMPLES / name).read_text("utf-8")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("flax_agnews")
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("flax_agnews.")]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fa":
            assert node.attr in flax_agnews.__all__, f"fa.{node.attr}"
