"""What makes scores mean little: said where it is so, and only there."""

from support.report_results import THREE, make, parsed

from flax_agnews.report.cautions import cautions


def test_nothing_is_said_of_sound_runs() -> None:
    assert list(cautions(parsed(make(THREE)))) == []


def test_bodies_that_say_nothing_about_gpt2() -> None:
    for name, what in (("random GPT-2 2 x 8", "Random weights."), ("builtin", "The builtin body."),
                       ("builtin, adapted", "The builtin body.")):  # fmt: skip
        results = make(THREE)
        results["model"]["name"] = name
        assert [title for title, _ in cautions(parsed(results))] == [what]


def test_runs_that_learned_nothing_diverged_or_skipped_updates_are_named() -> None:
    results = make({"full": [0.9, 0.26], "a_b": [0.2]})
    results["diverged"] = ["full seed 44 at step 7 (loss)"]
    for run in results["runs"]:
        run["skipped_updates"] = 1200 if run["strategy"] == "a_b" else 0
    idle, diverged, skipped = (" ".join(found) for found in cautions(parsed(results)))
    assert "(26.0 %): full seed 43, a_b seed 42." in idle
    assert "full seed 44 at step 7 (loss)." in diverged
    assert "a_b seed 42 (1,200)." in skipped
