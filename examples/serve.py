"""An HTTP server for a trained classifier, by the standard library. Waiting requests are classified together.

python examples/serve.py runs/quickstart --port 8000
curl -d '{"texts": ["Stocks rally as oil falls"]}' http://localhost:8000
"""

import argparse
import json
import queue
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import flax_agnews as fa

MOST_TEXTS = 128
"""Number of texts in a call of the classifier after which no more requests are added to it."""


class Batcher:
    """Classifies texts of many threads in one thread, with as few calls of the classifier as possible.

    The result for a text doesn't depend on the other texts in the call.
    """

    def __init__(self, classifier: fa.Classifier) -> None:
        self.classifier, self.calls = classifier, 0
        self._waiting: queue.Queue[tuple[list[str], Future]] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def answer(self, texts: list[str]) -> list[dict[str, object]]:
        """Label and probabilities of each text; waits until they are computed."""
        future: Future = Future()
        self._waiting.put((texts, future))
        return future.result()

    def _work(self) -> None:
        while True:
            jobs = [self._waiting.get()]
            while sum(len(texts) for texts, _ in jobs) < MOST_TEXTS and not self._waiting.empty():
                jobs.append(self._waiting.get())
            self.calls += 1
            try:
                answers = self.classifier.predict([text for texts, _ in jobs for text in texts])
            except Exception as error:  # raised in the waiting threads; this one continues
                for _, future in jobs:
                    future.set_exception(error)
                continue
            rows = iter(zip(answers.labels, answers.probabilities.tolist(), strict=True))
            for texts, future in jobs:
                found = [next(rows) for _ in texts]
                future.set_result(
                    [
                        {"label": label, "probabilities": dict(zip(answers.classes, shares, strict=True))}
                        for label, shares in found
                    ]
                )


def make_server(classifier: fa.Classifier, port: int) -> ThreadingHTTPServer:
    """Makes a server for POST requests with JSON: {"texts": [...]}."""
    batcher = Batcher(classifier)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Answers a request with 200 and the results, or 400 and an error message."""
            try:
                texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["texts"]
                if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                    raise ValueError("texts: must be a list of texts")
                code, answer = 200, {"answers": batcher.answer(texts)}
            except (KeyError, TypeError, ValueError, fa.UserError) as error:
                code, answer = 400, {"error": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a finished run, or an output folder (its best run)")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    trained = fa.Classifier.load(options.run)
    trained.predict(["The first call compiles."])
    print(f"{trained.name} listens at http://127.0.0.1:{options.port}")
    make_server(trained, options.port).serve_forever()
