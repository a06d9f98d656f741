"""The stand-in hub asked by the real clients, each in its own process; the reference is what it serves."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from transformers import AutoConfig, GPT2Tokenizer

from support.hub_standin import (
    AG_NEWS_LABELS,
    HubStandIn,
    client_environment,
    make_ag_news_repository,
    make_gpt2_repository,
    unreachable_url,
)

TEXT = "Oil prices climb 3% — shares don't follow.\n"

# asks for the default model and data set, as the package does, and tells what came
CLIENT = f"""
import json
from pathlib import Path
from datasets import load_dataset
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoConfig, AutoTokenizer, GPT2Tokenizer

text = {TEXT!r}
news = load_dataset("fancyzhx/ag_news")
print(json.dumps({{
    "file": Path(hf_hub_download("gpt2", "model.safetensors")).read_bytes().hex(),
    "snapshot": snapshot_download("gpt2"),
    "config": AutoConfig.from_pretrained("gpt2").to_diff_dict(),
    "ids": [kind.from_pretrained("gpt2")(text)["input_ids"] for kind in (GPT2Tokenizer, AutoTokenizer)],
    "rows": {{split: [[row["text"], row["label"]] for row in rows] for split, rows in news.items()}},
    "labels": news["train"].features["label"].names,
}}))
"""

# asks for what isn't there and tells the names of the errors
ERRORS = """
import json
from datasets import load_dataset
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoConfig

def error(call, *args, **more):
    try:
        call(*args, **more)
    except Exception as found:
        return [kind.__name__ for kind in type(found).__mro__]
    return []

print(json.dumps({
    "repository": error(hf_hub_download, "nobody/nothing", "config.json"),
    "snapshot": error(snapshot_download, "nobody/nothing"),
    "data set": error(load_dataset, "nobody/nothing"),
    "config": error(AutoConfig.from_pretrained, "nobody/nothing"),
    "file": error(hf_hub_download, "gpt2", "nothing.json"),
    "revision": error(hf_hub_download, "gpt2", "config.json", revision="nothing"),
    "dropped": error(hf_hub_download, "gpt2", "model.safetensors"),
    "whole": error(hf_hub_download, "gpt2", "config.json"),
}))
"""

UNREACHABLE = """
import json
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

try:
    snapshot_download("gpt2")
except LocalEntryNotFoundError as found:
    print(json.dumps([type(found.__cause__).__name__]))
"""

DOWNLOAD = """
import json
from pathlib import Path
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download
print(json.dumps({
    "file": Path(hf_hub_download("gpt2", "model.safetensors")).read_bytes().hex(),
    "part": HfFileSystem().cat_file("openai-community/gpt2/model.safetensors", start=5, end=25).hex(),
    "paths": [[info.path, info.size] for info in HfApi().get_paths_info("gpt2", ["config.json", "none"])],
}))
"""


def run(code: str, environment: dict[str, str]) -> Any:
    """What `code` prints last, as JSON, from a process of its own."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def generated_rows(count: int, seed: int) -> list[tuple[str, int]]:
    draw = random.Random(seed)
    words = ["oil", "match", "café", "“quoted”", "server", "naïve", "a\\b", "prices", "won", "$3.5"]
    return [(" ".join(draw.choices(words, k=draw.randint(1, 30))), draw.randrange(4)) for _ in range(count)]


class Served(NamedTuple):
    model: Path
    news: Path
    rows: dict[str, list[tuple[str, int]]]


class Asked(NamedTuple):
    online: dict[str, Any]
    offline: dict[str, Any]
    online_requests: list[str]
    offline_requests: list[str]
    hub: HubStandIn


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("repositories")
    rows = {"train": generated_rows(300, 1), "test": generated_rows(40, 2)}
    model = make_gpt2_repository(folder / "gpt2", [text for text, _ in rows["train"]])
    return Served(model, make_ag_news_repository(folder / "ag_news", rows["train"], rows["test"]), rows)


@pytest.fixture(scope="module")
def asked(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The same process twice with one cache, the second time offline."""
    home = tmp_path_factory.mktemp("home")
    with HubStandIn({"gpt2": served.model}, {"fancyzhx/ag_news": served.news}) as hub:
        online = run(CLIENT, client_environment(hub.url, home))
        before = len(hub.requests)
        offline = run(CLIENT, client_environment(hub.url, home, HF_HUB_OFFLINE="1"))
        return Asked(online, offline, hub.requests[:before], hub.requests[before:], hub)


def test_model_files_arrive_byte_for_byte(served: Served, asked: Asked) -> None:
    assert bytes.fromhex(asked.online["file"]) == (served.model / "model.safetensors").read_bytes()
    snapshot = Path(asked.online["snapshot"])
    assert {path.name: path.read_bytes() for path in snapshot.iterdir()} == {
        path.name: path.read_bytes() for path in served.model.iterdir()
    }
    assert snapshot.name == asked.hub.repositories["models"]["gpt2"].commit


def test_config_and_tokenizers_are_those_of_the_folder(served: Served, asked: Asked) -> None:
    assert asked.online["config"] == json.loads(json.dumps(AutoConfig.from_pretrained(served.model).to_diff_dict()))
    ids = GPT2Tokenizer.from_pretrained(served.model)(TEXT)["input_ids"]
    assert asked.online["ids"] == [ids, ids]
    assert len(ids) > 1


def test_data_set_has_its_rows_and_class_names(served: Served, asked: Asked) -> None:
    assert asked.online["rows"] == {split: [list(row) for row in rows] for split, rows in served.rows.items()}
    assert asked.online["labels"] == ["World", "Sports", "Business", "Sci/Tech"]


def test_class_names_come_from_the_card(served: Served) -> None:
    table = pq.read_table(served.news / "data" / "train-00000-of-00001.parquet")
    assert table.schema.metadata is None
    assert all(name in (served.news / "README.md").read_text() for name in AG_NEWS_LABELS)


def test_offline_the_cache_answers_alone(asked: Asked) -> None:
    assert asked.offline == asked.online
    assert asked.offline_requests == []
    assert any(request.startswith("GET /gpt2/resolve/") for request in asked.online_requests)


def test_unknown_names_raise_the_clients_own_errors(served: Served, tmp_path: Path) -> None:
    with HubStandIn({"gpt2": served.model}, fail_after_bytes=5000) as hub:
        errors = run(ERRORS, client_environment(hub.url, tmp_path))
    assert "RepositoryNotFoundError" in errors["repository"]
    assert "RepositoryNotFoundError" in errors["snapshot"]
    assert "DatasetNotFoundError" in errors["data set"]
    assert "OSError" in errors["config"]
    assert "EntryNotFoundError" in errors["file"]
    assert "RevisionNotFoundError" in errors["revision"]
    assert "RemoteProtocolError" in errors["dropped"]
    assert errors["whole"] == []


def test_an_unreachable_hub_refuses_the_connection(tmp_path: Path) -> None:
    assert run(UNREACHABLE, client_environment(unreachable_url(), tmp_path)) == ["ConnectError"]


def test_a_moved_model_is_followed_and_a_dropped_download_resumed(served: Served, tmp_path: Path) -> None:
    content = (served.model / "model.safetensors").read_bytes()
    new = "openai-community/gpt2"
    with HubStandIn({new: served.model}, moved={"gpt2": new}, fail_after_bytes=len(content) // 2, failures=1) as hub:
        got = run(DOWNLOAD, client_environment(hub.url, tmp_path))
        gets = hub.requests.count(f"GET /{new}/resolve/main/model.safetensors")
    assert bytes.fromhex(got["file"]) == content
    assert bytes.fromhex(got["part"]) == content[5:25]
    assert got["paths"] == [["config.json", (served.model / "config.json").stat().st_size]]
    assert hub.failures == 0
    assert gets == 3, hub.requests  # the dropped one, the rest of it, and the part
    assert "HEAD /gpt2/resolve/main/model.safetensors" in hub.requests
