"""The profile: what is read in a compiled program and a trace, and where the device's time is said to go."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import profile
from benchmarks.support.device_trace import Event, busy, read_events
from benchmarks.support.hlo_text import operations
from benchmarks.support.model_parts import PARTS, Place, place_of, place_of_kernel, scope
from benchmarks.support.profiled_steps import KnownProgram, attribute, build, by_operation, by_part
from benchmarks.support.trial import Trial

ROOT = Path(__file__).resolve().parents[2]

GPU_PROGRAM = """\
HloModule jit_one_device, is_scheduled=true, entry_computation_layout={(f32[8,4]{1,0})->f32[8,4]{1,0}}

%fused_gelu (p0: bf16[8,16]) -> bf16[8,16] {
  %p0 = bf16[8,16]{1,0} parameter(0)
  %c = bf16[] constant(0.5)
  %b = bf16[8,16]{1,0} broadcast(%c), dimensions={}, metadata={op_name="jit(f)/jvp(activation)/mul"}
  ROOT %m = bf16[8,16]{1,0} multiply(%p0, %b), metadata={op_name="jit(f)/jvp(activation)/mul"}
}

%fused_two (p0.1: f32[8,4]) -> (f32[8], f32[8,4]) {
  %p0.1 = f32[8,4]{1,0} parameter(0)
  %x = f32[8,4]{1,0} multiply(%p0.1, %p0.1), metadata={op_name="jit(f)/transpose(jvp(norm))/mul"}
  %r = f32[8]{0} reduce(%x), metadata={op_name="jit(f)/transpose(jvp(norm))/reduce_sum"}
  %a = f32[8,4]{1,0} add(%x, %p0.1), metadata={op_name="jit(f)/transpose(jvp(attention))/add"}
  ROOT %t = (f32[8]{0}, f32[8,4]{1,0}) tuple(%r, %a)
}

%fused_bias (p0.2: bf16[8,4], p1.2: bf16[4,16]) -> bf16[8,16] {
  %p0.2 = bf16[8,4]{1,0} parameter(0)
  %p1.2 = bf16[4,16]{1,0} parameter(1)
  %d = f32[8,16]{1,0} dot(%p0.2, %p1.2), lhs_contracting_dims={1}, metadata={op_name="jit(f)/jvp(attention)/linear/dot_general"}
  ROOT %n = bf16[8,16]{1,0} convert(%d), metadata={op_name="jit(f)/jvp(norm)/convert"}
}

ENTRY %main (x: f32[8,4], w: bf16[4,16]) -> f32[8,4] {
  %x.1 = f32[8,4]{1,0} parameter(0)
  %w.1 = bf16[4,16]{1,0} parameter(1)
  %gemm = (bf16[8,16]{1,0}, s8[1000]{0}) custom-call(%x.1, %w.1), custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/jvp(attention)/linear/dot_general"}, backend_config={"gemm_backend_config":{"lhs_batch_dimensions":[]}}
  %scores = bf16[2,8,8]{2,1,0} custom-call(%x.1, %x.1), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"lhs_batch_dimensions":["0"]}}
  %fmha = bf16[8,16]{1,0} custom-call(%x.1), custom_call_target="__cudnn$fmhaSoftmax", metadata={op_name="jit(f)/pjit"}
  %gelu_fusion.2 = bf16[8,16]{1,0} fusion(%gte), kind=kLoop, calls=%fused_gelu, metadata={op_name="jit(f)/jvp(activation)/mul"}
  %two = (f32[8]{0}, f32[8,4]{1,0}) fusion(%x.1), kind=kInput, calls=%fused_two
  %bias = bf16[8,16]{1,0} fusion(%x.1, %w.1), kind=kCustom, calls=%fused_bias, metadata={op_name="jit(f)/jvp(norm)/convert"}
  %copy.3 = f32[8,4]{0,1} copy(%x.1), metadata={op_name="jit(f)/jvp(linear)/transpose"}
  ROOT %out = f32[8,4]{1,0} add(%x.1, %x.1), metadata={op_name="jit(norm)/add"}
}
"""  # noqa: E501


def test_a_program_is_read() -> None:
    found = operations(GPU_PROGRAM)
    assert set(found) == {"x.1", "w.1", "gemm", "scores", "fmha", "gelu_fusion.2", "two", "bias", "copy.3", "out"}
    x, w, result = 4 * 8 * 4, 2 * 4 * 16, 2 * 8 * 16
    assert found["gemm"].bytes == x + w + result  # without its workspace
    assert found["scores"].bytes == x + 2 * 2 * 8 * 8  # an operand that is given twice is read once
    assert found["two"].bytes == x + 4 * 8 + x
    assert [one.kind for one in found["two"].inner] == ["multiply", "reduce", "add", "tuple"]
    assert [name for name, one in found.items() if one.product] == ["gemm", "scores"]
    assert [name for name, one in found.items() if one.batched] == ["scores"]


SLICES = """\
%fused_window (table: f32[1000,4], rows: s32[8], big: f32[100,4]) -> f32[100,4] {
  %table = f32[1000,4]{1,0} parameter(0)
  %rows = s32[8]{0} parameter(1)
  %big = f32[100,4]{1,0} parameter(2)
  %flat = f32[1000,4]{1,0} bitcast(%table)
  %g = f32[8,4]{1,0} gather(%flat, %rows), offset_dims={1}
  %zero = s32[] constant(0)
  ROOT %d = f32[100,4]{1,0} dynamic-update-slice(%big, %g, %zero, %zero)
}

ENTRY %main (t: f32[1000,4], r: s32[8], b: f32[100,4]) -> f32[100,4] {
  %t = f32[1000,4]{1,0} parameter(0)
  %r = s32[8]{0} parameter(1)
  %b = f32[100,4]{1,0} parameter(2)
  %alone = f32[8,4]{1,0} gather(%t, %r), offset_dims={1}
  %adds = f32[1000,4]{1,0} scatter(%t, %r, %alone), to_apply=%add
  ROOT %window = f32[100,4]{1,0} fusion(%t, %r, %b), kind=kLoop, calls=%fused_window
}
"""


def test_of_what_is_sliced_or_updated_only_that_part_moves() -> None:
    found, rows, indices = operations(SLICES), 8 * 4 * 4, 8 * 4
    assert found["alone"].bytes == 2 * rows + indices  # read and written
    assert found["adds"].bytes == 3 * rows + indices  # rows are read, and added to what is read and written
    assert found["window"].bytes == 2 * rows + indices


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("gemm", Place("linear products", False)),
        ("scores", Place("attention products", False)),  # no name: by its batch dimensions
        ("fmha", Place("attention products", False)),
        ("gelu_fusion.2", Place("activations", False)),
        ("two", Place("norms", True)),  # of its three named operations two are a norm's
        ("bias", Place("linear products", False)),  # its product decides
        ("copy.3", Place("copies", False)),
        ("out", Place("other", False)),  # a function called norm is no scope
    ],
)
def test_an_operation_has_a_part(name: str, place: Place) -> None:
    operation = operations(GPU_PROGRAM)[name]
    assert place_of(operation, update=False) == place
    assert place_of(operation, update=True) == Place("optimizer", False)
    assert place.part in PARTS


def test_the_innermost_scope_counts() -> None:
    assert scope("jit(f)/transpose(jvp(attention))/linear/dot_general") == "linear"
    assert scope("jit(f)/transpose(jvp(attention))/vmap(dropout)/mul") == "dropout"
    assert scope("jit(f)/jvp()/while/body/dot_general") == ""


def test_kernels_of_libraries_have_a_part() -> None:
    names = ["MemcpyH2D", "nvjet_hsh_128x256", "cudnn_generated_fort_native_sdpa", "loop_add_fusion"]
    assert [place_of_kernel(name).part for name in names] == [
        "copies",
        "linear products",
        "attention products",
        "other",
    ]


def test_programs_of_one_name_are_told_apart_by_their_operations() -> None:
    """The update and the gradients have one name; kernels without a program are found by their own name."""
    update = "ENTRY %m (p: f32[2]) -> f32[2] {\n  %p = f32[2]{0} parameter(0)\n  %two = f32[2]{0} negate(%p)\n"
    update += "  %loop.1 = (f32[2]{0}) while(%two), body=%b\n}\n"
    programs = [KnownProgram(operations(GPU_PROGRAM), False), KnownProgram(operations(update), True)]
    events = [
        Event("k1", "gemm", ("jit_one_device", "1"), 0, 2.0),
        Event("k2", "two", ("jit_one_device", "1"), 2, 3.0),
        Event("k2", "two", ("jit_one_device", "2"), 5, 4.0),
        Event("while", "loop.1", ("jit_one_device", "2"), 5, 5.0),
        Event("gelu_fusion_2", "", ("", ""), 9, 1.0),
        Event("MemcpyD2D", "", ("", ""), 9, 0.5),
    ]
    found = attribute(events, programs, nested=True)
    places = ["linear products", "norms", "optimizer", "activations", "copies"]
    assert [one.place.part for one in found] == places
    assert [one.place.part for one in attribute(events, programs, nested=False)][3] == "optimizer"
    rows = by_part(found, steps=2)
    assert {row["part"]: row["seconds"] for row in rows} == dict(zip(places, [1, 1.5, 2, 0.5, 0.25], strict=True))
    assert [row["name"] for row in by_operation(found, steps=2)][:2] == ["two", "two"]


def test_busy_is_the_union() -> None:
    spans = [(0, 2), (1, 2), (1.5, 0.25), (10, 1)]
    assert busy([Event("", "", ("", ""), *span) for span in spans]) == 4


def test_a_real_trace_has_all_the_time_of_its_programs(tmp_path: Path) -> None:
    """Of a huge product in a scope most of the time is its; all events are those that the trace's other form has."""

    def function(w: jax.Array, x: jax.Array) -> jax.Array:
        with jax.named_scope("linear"):
            y = x @ w
        with jax.named_scope("activation"):
            return jnp.tanh(y).sum()

    w, x = jnp.ones((1024, 1024)), jnp.ones((512, 1024))
    step = jax.jit(jax.grad(function)).lower(w, x).compile()
    jax.block_until_ready(step(w, x))
    with jax.profiler.trace(str(tmp_path)):
        for _ in range(3):
            jax.block_until_ready(step(w, x))
    found = attribute(read_events(tmp_path), [KnownProgram(operations(step.as_text()), False)], nested=True)
    rows = by_part(found, steps=3)
    seconds = {row["part"]: 0.0 for row in rows}
    for row in rows:
        seconds[row["part"]] += row["seconds"]
    assert {"linear products", "activations"} <= set(seconds) <= {"linear products", "activations", "other", "copies"}
    assert {row["backward"] for row in rows if row["part"] == "linear products"} == {False, True}
    assert seconds["linear products"] > 0.5 * sum(seconds.values())
    (file,) = tmp_path.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    names = {one.event.operation for one in found}
    traced = sum(event["dur"] for event in events if event.get("args", {}).get("hlo_op") in names) / 1e6
    assert 3 * sum(seconds.values()) == pytest.approx(traced, rel=1e-3)


def test_the_environment_by_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    assert profile.environment(cpu=True, nvidia=True, folder="f")["JAX_PLATFORMS"] == "cpu"
    assert "XLA_FLAGS" not in profile.environment(cpu=True, nvidia=True, folder="f")
    flags = profile.environment(cpu=False, nvidia=True, folder="f")["XLA_FLAGS"]
    assert flags == "--xla_a=1 --xla_gpu_enable_command_buffer="
    assert "XLA_FLAGS" not in profile.environment(cpu=False, nvidia=False, folder="f")


@pytest.mark.long
def test_a_huge_mlp_is_mostly_products(tmp_path: Path) -> None:
    sizes = {"vocab_size": 2048, "n_embd": 256, "n_inner": 4096, "n_layer": 2, "n_head": 2, "n_positions": 300}
    where = {"data": "builtin", "tokenizer": "builtin"}
    trial = Trial(model=json.dumps(sizes), batch_size=16, shapes=1, runs=1, rows=40, **where)
    _, facts = build(trial, str(tmp_path), 2)
    seconds = {part: sum(row["seconds"] for row in facts["parts"] if row["part"] == part) for part in PARTS}
    model = sum(seconds.values()) - seconds["optimizer"]
    assert seconds["optimizer"] > 0
    assert seconds["linear products"] > 0.4 * model  # where nothing is optimized, activations take long too
    assert seconds["linear products"] == max(seconds[part] for part in PARTS if part != "optimizer")
    assert facts["busy_seconds"] <= facts["traced_seconds"]
    assert facts["steps"] == 2


@pytest.mark.long
def test_the_script_for_gpus_runs_without_one(shared: Path, tmp_path: Path) -> None:
    """The tiny form of all benchmarks: each leaves its page."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"SMOKE": "1", "DATA": str(shared / "ag_news"), "TOKENIZER": str(shared / "gpt2_tokenizer")}
    command = [str(ROOT / "benchmarks/gpu.sh"), str(tmp_path / "results")]
    done = subprocess.run(
        command, env={**environment, "PYTHON": sys.executable}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    parts = (tmp_path / "results/parts.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in parts] == [
        "profile",
        "throughput",
        "vs_pytorch_128",
        "vs_pytorch_512",
        "experiment",
    ]
    assert all(line.endswith("exit code 0") for line in parts), done.stdout
    pages = ["profile", "throughput", "vs_pytorch_128/vs_pytorch", "vs_pytorch_512/vs_pytorch", "experiment"]
    assert all((tmp_path / f"results/{page}.{kind}").exists() for page in pages for kind in ("md", "json"))
    entries = json.loads((tmp_path / "results/experiment.json").read_text())["entries"]
    assert sum(entries["cold"]["parts"].values()) == pytest.approx(entries["cold"]["wall"])
    assert [found["runs"] for found in entries["cold"]["strategies"].values()] == [1, 1, 1]
