"""What a model's name means: `builtin` is the package's own model wherever the process runs."""

from pathlib import Path

import pytest

import flax_agnews
from flax_agnews.system.model_names import is_local, model_folder, on_hub


@pytest.mark.parametrize("name", ["./m", "/m", "~/m", "a/b/c", "../builtin", "./builtin"])
def test_paths_are_local(name: str) -> None:
    assert is_local(name)
    assert not on_hub(name)


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2", "builtin/gpt2"])
def test_hub_ids(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert on_hub(name)
    assert not is_local(name)
    Path(name).mkdir(parents=True)  # a directory of that name comes first
    assert is_local(name)
    assert model_folder(name) == Path(name)


def test_the_packages_own_is_neither_even_beside_a_directory_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "builtin").mkdir()
    assert not is_local("builtin")
    assert not on_hub("builtin")
    assert model_folder("builtin").is_relative_to(Path(flax_agnews.__file__).parent)
    assert (model_folder("builtin") / "config.json").is_file()
    assert model_folder("./builtin") == Path("builtin")
