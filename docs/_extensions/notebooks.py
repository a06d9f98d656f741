"""A notebook as a page: its text, code, printed output and pictures, as they were saved."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def page(file: Path, folder: Path) -> str:
    """The Markdown of a notebook; its pictures are written into `folder`, where the page will be."""
    cells = json.loads(file.read_text("utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell, file.stem, folder)) + "\n"


def _parts(cell: Any, name: str, folder: Path) -> Iterator[str]:
    source = "".join(cell["source"])
    yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
    for number, output in enumerate(cell.get("outputs", [])):
        data = output.get("data", {})
        if "image/png" in data:
            picture = folder / f"{name}-{cell['id']}-{number}.png"
            folder.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(base64.b64decode("".join(data["image/png"])))
            yield f"![]({picture.name})"
        elif text := "".join(output.get("text", data.get("text/plain", []))).rstrip():
            yield f"```output\n{text}\n```"
