"""An export uploaded to a stand-in hub on loopback, and loaded from it again."""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.bounds import BOUNDS
from support.hub_standin import client_environment, unreachable_url
from support.hub_uploads import OWNER, TOKEN, HubWithAccount

from flax_agnews import Classifier, load_base
from flax_agnews.config import ModelConfig

ROOT = Path(__file__).resolve().parents[3]
NAME = f"{OWNER}/news"
TEXTS = ["Oil prices climb.", "<|endoftext|>", "The match was won in the last minute, again " * 9]

# the command, where PyTorch can't be imported
EXPORT = """
import sys
sys.modules["torch"] = None
from flax_agnews.export import main
sys.exit(main())
"""

# loads what was uploaded, as we do and as transformers does
LOAD = f"""
import json, sys
from flax_agnews import load_base
from flax_agnews.config import ModelConfig
from flax_agnews.data.tokens import load_tokenizer
ours = load_base(ModelConfig(name={NAME!r})).hash, load_tokenizer({NAME!r}).vocabulary
from transformers import pipeline
texts = json.loads(sys.argv[1])
found = pipeline("text-classification", {NAME!r})(texts, truncation=True, top_k=None, batch_size=2)
print(json.dumps([ours, [{{one["label"]: one["score"] for one in row}} for row in found]]))
"""

# uploads a folder under each of the names, with its token (NAME=TOKEN) or none; tells each error
REFUSED = """
import json, os, sys
from flax_agnews import UserError
from flax_agnews.trained.exports.upload import check_upload, upload
folder, *names = sys.argv[1:]
told = []
for given in names:
    name, _, os.environ["HF_TOKEN"] = given.partition("=")
    try:
        check_upload(name)
        upload(folder, name, private=False)
    except UserError as error:
        told.append(error.with_flags)
print(json.dumps(told))
"""


class Uploaded(NamedTuple):
    hub: HubWithAccount
    run: Path
    folder: Path
    said: str


@pytest.fixture(scope="module")
def uploaded(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uploaded]:
    """A run that the command exported, and uploaded to a private repository."""
    folder = tmp_path_factory.mktemp("upload")
    run = trained / "full" / "seed-42"
    with HubWithAccount(folder / "hub") as hub:
        environment = client_environment(hub.url, folder / "home", HF_TOKEN=TOKEN)
        flags = ["--to", "hf", str(folder / "out"), "--upload", NAME, "--private"]
        done = _run(EXPORT, environment, str(run), *flags)
        yield Uploaded(hub, run, folder / "out", done.stdout)


def _run(code: str, environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done


def test_the_command_says_where_it_is(uploaded: Uploaded) -> None:
    written, address = uploaded.said.splitlines()
    assert written.startswith(f"{uploaded.folder}: full/seed-42; read again, its logits differ by ")
    assert address == f"{uploaded.hub.url}/{NAME}"


def test_the_hub_has_every_byte_and_shows_it_to_its_owner_alone(uploaded: Uploaded) -> None:
    held = uploaded.hub.repositories["models"][NAME].folder
    assert {path.name: path.read_bytes() for path in held.iterdir()} == {
        path.name: path.read_bytes() for path in uploaded.folder.iterdir()
    }
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{uploaded.hub.url}/{NAME}/resolve/main/config.json")


def test_what_was_uploaded_loads_here_and_in_transformers(uploaded: Uploaded, tmp_path: Path) -> None:
    environment = client_environment(uploaded.hub.url, tmp_path, HF_TOKEN=TOKEN)
    (body, _), found = json.loads(_run(LOAD, environment, json.dumps(TEXTS)).stdout.splitlines()[-1])
    assert body == load_base(ModelConfig(name=str(uploaded.folder))).hash
    answers = Classifier.load(uploaded.run).predict(TEXTS)
    theirs = np.array([[row[name] for name in answers.classes] for row in found])
    np.testing.assert_allclose(theirs, answers.probabilities, rtol=0, atol=BOUNDS["hugging_face"])


def _refusals(url: str, home: Path, folder: Path, *names: str, **more: str) -> list[str]:
    told: Any = json.loads(_run(REFUSED, client_environment(url, home, **more), str(folder), *names).stdout)
    assert not any("\n" in line for line in told)
    return told


def test_what_the_hub_refuses(uploaded: Uploaded, tmp_path: Path) -> None:
    url, folder = uploaded.hub.url, uploaded.folder
    other, nobody = _refusals(url, tmp_path, folder, f"others/news={TOKEN}", NAME)
    assert other == f"--upload others/news: the token may not write there; {folder} is written"
    assert nobody.startswith(f"--upload {NAME}: there is no token; log in")
    [offline] = _refusals(url, tmp_path, folder, f"{NAME}={TOKEN}", HF_HUB_OFFLINE="1")
    assert offline == f"--upload {NAME}: HF_HUB_OFFLINE is set; {folder} is written"
    [away] = _refusals(unreachable_url(), tmp_path, folder, f"{NAME}={TOKEN}")
    assert away.startswith(f"--upload {NAME}: failed (")


def test_a_second_upload_takes_the_place_of_the_first(uploaded: Uploaded, tmp_path: Path) -> None:
    other = Path(shutil.copytree(uploaded.folder, tmp_path / "out"))
    (other / "README.md").write_text("---\nlibrary_name: transformers\n---\n")
    environment = client_environment(uploaded.hub.url, tmp_path)
    assert json.loads(_run(REFUSED, environment, str(other), f"{NAME}={TOKEN}").stdout) == []
    held = uploaded.hub.repositories["models"][NAME].folder
    assert (held / "README.md").read_bytes() == (other / "README.md").read_bytes()
    assert (held / "model.safetensors").read_bytes() == (uploaded.folder / "model.safetensors").read_bytes()
