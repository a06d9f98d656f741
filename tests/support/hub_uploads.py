"""The stand-in hub with an account: what `huggingface_hub` asks to make a repository and to commit files to it.

/api/repos/create, /api/validate-yaml, preupload and commit (NDJSON, files in base64: the client may be told that a file
of any size is no large one, so that there are neither LFS nor Xet).
"""

import base64
import json
import re
from http import HTTPStatus
from pathlib import Path

from support.hub_standin import Handler, HubStandIn, Missing, Repository

OWNER, TOKEN = "somebody", "hf_of_somebody"

_COMMIT = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/(?P<what>preupload|commit)/main")


class HubWithAccount(HubStandIn):
    """Serves what is uploaded by `OWNER`, with `TOKEN`; private repositories to it alone.

    Args:
        folder: Where uploaded files go.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.private: set[str] = set()


class _Account(Handler):
    server: HubWithAccount

    def route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        """Answers a request, or raises `Missing`."""
        if any(path.startswith((f"/{name}/", f"/api/models/{name}")) for name in self.server.private):
            self._require_token()
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.send_json({"warnings": [], "errors": []})
        if match := _COMMIT.fullmatch(path):
            self._require_token()
            self.server.repository("models", match["id"], None)
            return self._modes(json.loads(body)) if match["what"] == "preupload" else self._commit(match["id"], body)
        super().route(path, query, body)

    def _require_token(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Missing("", HTTPStatus.UNAUTHORIZED)

    def _create(self, asked: dict[str, str]) -> None:
        self._require_token()
        if asked["organization"] != OWNER:
            raise Missing("", HTTPStatus.FORBIDDEN)
        name = f"{OWNER}/{asked['name']}"
        folder, known = self.server.folder / asked["name"], self.server.repositories["models"]
        made = {"url": f"{self.server.url}/{name}", "name": name}
        if name in known:
            return self.send_json({"error": "You already created this model repo", **made}, HTTPStatus.CONFLICT)
        folder.mkdir(parents=True)
        known[name] = Repository(folder)
        if asked.get("visibility") == "private":
            self.server.private.add(name)
        self.send_json(made)

    def _modes(self, asked: dict[str, list[dict[str, str]]]) -> None:
        files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked["files"]]
        self.send_json({"files": files})

    def _commit(self, name: str, body: bytes) -> None:
        folder = self.server.repositories["models"][name].folder
        _, *operations = map(json.loads, body.splitlines())
        for operation in operations:
            assert operation["key"] == "file", operation["key"]
            value = operation["value"]
            assert Path(value["path"]).name == value["path"]
            (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
        repository = self.server.repositories["models"][name] = Repository(folder)
        self.send_json(
            {"commitUrl": f"{self.server.url}/{name}/commit/{repository.commit}", "commitOid": repository.commit}
        )


HubWithAccount.handler = _Account
