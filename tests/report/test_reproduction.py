"""How an experiment is repeated: commands for registered strategies, comments for those of scripts."""

from support.report_results import THREE, make, parsed

from flax_agnews.report.reproduction import command, commands, own_strategies


def customized(*names: str):
    results = make(THREE)
    for run in results["runs"]:
        run["custom"] = run["strategy"] in names
    return parsed(results)


def test_registered_strategies_are_repeated_by_the_configuration() -> None:
    assert command(customized()) == "python -m flax_agnews.main --config config.yaml"
    assert own_strategies(customized()) == []
    comment, line = commands(customized())
    assert (comment[0], line) == ("#", command(customized()))


def test_strategies_of_scripts_are_left_out_of_the_command() -> None:
    found = customized("prompt")
    assert own_strategies(found) == ["prompt"]
    assert (command(found) or "").endswith(" --strategy full,partial")
    assert "prompt" in commands(found)[0]
    assert commands(found)[-1] == command(found)


def test_merged_results_name_the_file_that_names_their_folders() -> None:
    results = make(THREE)
    for run in results["runs"]:
        run["environment"] = {"jax": "0.10.2"}
    (comment,) = commands(parsed(results))
    assert comment.startswith("# merged.yaml")


def test_scripts_alone_have_no_command() -> None:
    found = customized(*THREE)
    assert command(found) is None
    (comment,) = commands(found)
    assert comment.startswith("#")
    assert all(name in comment for name in THREE)
