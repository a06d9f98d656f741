"""A small stand-in for the Hugging Face hub on loopback, and small repositories to serve.

It answers what `huggingface_hub`, `transformers` and `datasets` ask to read a repository: /api/models and
/api/datasets (info, tree, paths-info), HEAD and GET of /resolve. It has no Xet, accounts or datasets-server.
Clients read their endpoint when imported: run them in a process of their own, with `client_environment`.
"""

import hashlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2Model

AG_NEWS_LABELS = ("World", "Sports", "Business", "Sci/Tech")

_ID = r"(?P<id>[^/]+(?:/[^/]+)?)"  # `gpt2` or `openai-community/gpt2`
_API = re.compile(
    rf"/api/(?P<kind>models|datasets)/{_ID}"
    r"(?:/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?"
)
_RESOLVE = re.compile(rf"/(?:(?P<kind>datasets)/)?{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_CHUNK = 1 << 16  # bytes
_OK = HTTPStatus.OK


class Missing(Exception):
    """What a request names isn't there; `code` is the hub's word for it, `commit` the repository's."""

    def __init__(self, code: str, status: HTTPStatus = HTTPStatus.NOT_FOUND, commit: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.headers = {"X-Error-Code": code} | ({"X-Repo-Commit": commit} if commit else {})


class Repository:
    """A folder as the hub sees a repository: one branch `main`, one commit derived from the contents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        self.files = {name: _file_entry(folder / name, name) for name in names}
        parents = {parent.as_posix() for name in self.files for parent in Path(name).parents} - {"."}
        self.folders = {name: {"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in parents}
        self.commit = hashlib.sha1(json.dumps(self.files).encode()).hexdigest()

    def file(self, name: str) -> dict[str, Any]:
        """The entry of one file; raises `Missing` where there is none."""
        if name not in self.files:
            raise Missing("EntryNotFound", commit=self.commit)
        return self.files[name]

    def tree(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """The entries below `folder` ("" is the root); raises `Missing` where there is no such folder."""
        if folder and folder not in self.folders:
            raise Missing("EntryNotFound", commit=self.commit)
        start = f"{folder}/" if folder else ""
        below = [entry for name, entry in (self.files | self.folders).items() if name.startswith(start)]
        return [entry for entry in below if recursive or "/" not in entry["path"].removeprefix(start)]

    def paths_info(self, paths: Sequence[str]) -> list[dict[str, Any]]:
        """The entries of those `paths` that exist."""
        return [entry for name, entry in (self.files | self.folders).items() if name in paths]


def _file_entry(path: Path, name: str) -> dict[str, Any]:
    """A file as the hub lists it; its id is git's hash of a blob, which is also its ETag."""
    size = path.stat().st_size
    digest = hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return {"type": "file", "path": name, "oid": digest.hexdigest(), "size": size}


class HubStandIn(ThreadingHTTPServer):
    """Serves folders as repositories while the context is open; after it, `url` is a closed port.

    Args:
        models: Folder of each model by its id, with or without a namespace.
        datasets: Folder of each data set by its id.
        moved: Old id -> new id, answered by a redirect as the hub does for `gpt2`.
        fail_after_bytes: Drop the connection where a file goes on after so many bytes. May be changed later.
        failures: How often to do so; by default every time.
    """

    daemon_threads = True
    handler: type["Handler"]

    def __init__(
        self,
        models: Mapping[str, Path] = {},
        datasets: Mapping[str, Path] = {},
        moved: Mapping[str, str] = {},
        fail_after_bytes: int | None = None,
        failures: int | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), self.handler)
        self.repositories = {
            "models": {name: Repository(folder) for name, folder in models.items()},
            "datasets": {name: Repository(folder) for name, folder in datasets.items()},
        }
        self.moved = moved
        self.fail_after_bytes = fail_after_bytes
        self.failures = failures
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stays silent where a client hangs up early; a fault of the stand-in itself is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def repository(self, kind: str, name: str, revision: str | None) -> Repository:
        """Finds a repository; raises `Missing`, 401 as on the hub, where an unknown one may be private."""
        if name not in self.repositories[kind]:
            raise Missing("RepoNotFound", HTTPStatus.UNAUTHORIZED)
        found = self.repositories[kind][name]
        if revision not in (None, "main", found.commit):
            raise Missing("RevisionNotFound")
        return found

    def cut(self, first: int, last: int) -> int | None:
        """How many of a file's bytes `first` to `last` are sent before the connection drops; None is all."""
        limit = self.fail_after_bytes
        if limit is None or last < limit or self.failures == 0:
            return None
        if self.failures is not None:
            self.failures -= 1
        return max(limit - first, 0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubStandIn

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {unquote(self.path)}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        try:
            self.route(url.path, parse_qs(url.query), body)
        except Missing as missing:
            self.send_json({"error": str(missing)}, missing.status, missing.headers)

    do_HEAD = do_POST = do_GET

    def route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        """Answers a request, or raises `Missing`."""
        match = _API.fullmatch(path) or _RESOLVE.fullmatch(path)
        if match is None:
            raise Missing("EntryNotFound")
        parts = {key: value and unquote(value) for key, value in match.groupdict().items()}
        name = parts["id"]
        if name in self.server.moved:
            start, end = match.span("id")
            target = self.path[:start] + self.server.moved[name] + self.path[end:]
            return self.send_json({}, HTTPStatus.TEMPORARY_REDIRECT, {"Location": target})
        repository = self.server.repository(parts["kind"] or "models", name, parts["revision"])
        if match.re is _RESOLVE:
            return self._send_file(repository, repository.file(parts["path"]))
        match parts["what"]:
            case "tree":
                recursive = query.get("recursive", [""])[0].lower() == "true"
                return self.send_json(repository.tree(parts["path"] or "", recursive))
            case "paths-info":
                return self.send_json(repository.paths_info(parse_qs(body.decode()).get("paths", [])))
        siblings = [{"rfilename": file} for file in repository.files]
        self.send_json({"id": name, "sha": repository.commit, "private": False, "siblings": siblings})

    def send_json(self, value: object, status: HTTPStatus = _OK, headers: Mapping[str, str] = {}) -> None:
        body = json.dumps(value).encode()
        plain = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self._send_head(status, {**plain, **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, repository: Repository, entry: dict[str, Any]) -> None:
        size = entry["size"]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]), size - 1) if asked and asked[2] else size - 1
        headers = {"ETag": f'"{entry["oid"]}"', "X-Repo-Commit": repository.commit}
        headers |= {"X-Linked-Size": str(size), "Accept-Ranges": "bytes"}
        if first >= size and asked:
            headers["Content-Range"] = f"bytes */{size}"
            return self.send_json({}, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
        if asked:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        headers["Content-Length"] = str(last - first + 1)
        self._send_head(HTTPStatus.PARTIAL_CONTENT if asked else _OK, headers)
        if self.command != "HEAD":
            self._send_bytes(repository.folder / entry["path"], first, last)

    def _send_bytes(self, path: Path, first: int, last: int) -> None:
        cut = self.server.cut(first, last)
        left = last - first + 1 if cut is None else cut
        with path.open("rb") as file:
            file.seek(first)
            while left > 0:
                chunk = file.read(min(left, _CHUNK))
                self.wfile.write(chunk)
                left -= len(chunk)
        if cut is not None:
            self.close_connection = True

    def _send_head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Stays silent; `HubStandIn.requests` has the log."""


HubStandIn.handler = Handler


def unreachable_url() -> str:
    """An endpoint at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def client_environment(url: str, home: Path, **more: str) -> dict[str, str]:
    """The environment of a process whose hub clients talk to `url` alone and keep their caches in `home`."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
    }
    return ours | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | more


def make_ag_news_repository(
    folder: Path, train_rows: Iterable[tuple[str, int]], test_rows: Iterable[tuple[str, int]]
) -> Path:
    """Writes (text, label) rows as the hub's fancyzhx/ag_news has them: Parquet, features in the card."""
    (folder / "data").mkdir(parents=True)
    splits = []
    for split, rows in (("train", train_rows), ("test", test_rows)):
        texts, labels = zip(*rows, strict=True)
        table = pa.table({"text": pa.array(texts, pa.string()), "label": pa.array(labels, pa.int64())})
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
        splits.append({"name": split, "num_bytes": table.nbytes, "num_examples": table.num_rows})
    names = {str(number): name for number, name in enumerate(AG_NEWS_LABELS)}
    label = {"name": "label", "dtype": {"class_label": {"names": names}}}
    features = [{"name": "text", "dtype": "string"}, label]
    files = [{"split": split["name"], "path": f"data/{split['name']}-*"} for split in splits]
    card = {
        "dataset_info": {"features": features, "splits": splits},
        "configs": [{"config_name": "default", "data_files": files}],
    }
    # JSON is YAML too
    (folder / "README.md").write_text(f"---\n{json.dumps(card, indent=1)}\n---\n\n# AG News\n")
    return folder


def make_gpt2_repository(folder: Path, texts: Iterable[str], seed: int = 0, **config: int) -> Path:
    """Writes a tiny GPT-2 as the hub's gpt2 has it: random weights, its names, a byte-level BPE of `texts`.

    `config` sets fields of config.json; by default 2 layers, 2 heads, 32 wide, 64 positions, 512 tokens.
    """
    fields = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64, "vocab_size": 512} | config
    tokenizer, end = ByteLevelBPETokenizer(), "<|endoftext|>"
    tokenizer.train_from_iterator(texts, fields["vocab_size"], special_tokens=[end], show_progress=False)
    fields |= dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.token_to_id(end))
    fields["vocab_size"] = tokenizer.get_vocab_size()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        GPT2Model(GPT2Config.from_dict(fields)).save_pretrained(folder)
    tokenizer.save_model(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)
    settings = {"model_max_length": fields["n_positions"], **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
