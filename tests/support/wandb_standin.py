"""A loopback server that keeps the runs of the real W&B client: their rows, as the client uploads and resumes them."""

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = {"id": "p", "name": "agnews", "entity": {"id": "e", "name": "team"}}


class Server(http.server.ThreadingHTTPServer):
    """Attributes: `runs`, id -> `history` (lines of JSON), `summary` and `config`; `begun`, variables of new runs."""

    daemon_threads = True

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.begun: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """id -> the rows of a run, in the order of their upload."""
        return {name: [json.loads(line) for line in run["history"]] for name, run in self.runs.items()}

    @property
    def environment(self) -> dict[str, str]:
        """What the client has to know."""
        return {
            "WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}",
            "WANDB_API_KEY": "k" * 40,
            "WANDB_ERROR_REPORTING": "false",
        }

    def sync(self, *paths: Path) -> None:
        """`wandb sync`, in a process of its own."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
        command = [str(Path(sys.executable).with_name("wandb")), "sync", *map(str, paths)]
        env, place = {**plain, **self.environment}, paths[0]  # it leaves logs where it is called
        done = subprocess.run(command, env=env, cwd=place, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        request = json.loads(self._body() or "{}")
        if self.path.endswith("/file_stream"):
            self._take(self.server.runs[self.path.split("/")[-2]], request.get("files") or {})
            self._answer({"exitcode": None, "limits": {}})
            return
        query, asked = request.get("query", ""), request.get("variables", {})
        if "upsertBucket" in query:
            run = self.server.runs.get(asked["name"])
            if run is None:
                run = self.server.runs[asked["name"]] = {"history": [], "summary": "{}", "config": "{}"}
                self.server.begun.append(asked)
            run["config"] = asked.get("config") or run["config"]
            bucket = {"id": "r", "name": asked["name"], "displayName": asked["name"], "project": PROJECT}
            self._answer({"data": {"upsertBucket": {"bucket": {**self._facts(run), **bucket}, "inserted": True}}})
        elif "ResumeStatus" in query:
            run = self.server.runs.get(asked["name"])
            self._answer(
                {
                    "data": {
                        "model": {
                            **PROJECT,
                            "bucket": {**self._facts(run), "name": asked["name"], "displayName": asked["name"]}
                            if run
                            else None,
                        }
                    }
                }
            )
        else:
            self.send_error(400)

    def _facts(self, run: dict[str, Any]) -> dict[str, Any]:
        """What a resumed run asks for."""
        lines = {"historyLineCount": len(run["history"]), "logLineCount": 0, "eventsLineCount": 0}
        tails = {"historyTail": json.dumps(run["history"][-1:]), "eventsTail": "[]"}
        told = {"summaryMetrics": run["summary"], "config": run["config"], "wandbConfig": '{"t": 1}'}
        return {"id": "r", "tags": [], **lines, **tails, **told}

    def _take(self, run: dict[str, Any], files: dict[str, Any]) -> None:
        """Lines of the run's files; those of the history from an offset on, where they stand instead of others."""
        if history := files.get("wandb-history.jsonl"):
            assert history["offset"] <= len(run["history"])
            run["history"][history["offset"] :] = history["content"]
        if summary := files.get("wandb-summary.json"):
            run["summary"] = summary["content"][-1]

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value: dict[str, Any]) -> None:
        answer = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
