"""Processors without bfloat16 products are recognised from /proc/cpuinfo, before training and in the benchmark."""

import platform
import subprocess

import pytest

from benchmarks import vs_pytorch
from benchmarks.support import vs_pytorch_tables
from benchmarks.support.workers import Suite
from flax_agnews.experiment.announcement import slow_type
from flax_agnews.system.machine import cpuinfo, lacks_bfloat16

# Each cut to the lines that count, and to some of its flags.
HASWELL = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU E5-2673 v3 @ 2.40GHz
flags\t\t: fpu vme de pse tsc msr sse sse2 ssse3 fma cx16 avx f16c rdrand avx2 bmi2 erms
bugs\t\t: cpu_meltdown spectre_v1
"""
SKYLAKE = """model name\t: Intel(R) Xeon(R) Platinum 8171M CPU @ 2.60GHz
flags\t\t: fpu sse2 fma avx avx2 avx512f avx512dq avx512cd avx512bw avx512vl
"""
ROME = """model name\t: AMD EPYC 7452 32-Core Processor
flags\t\t: fpu sse2 fma avx f16c avx2 bmi2 sha_ni umip
"""
GENOA = """model name\t: AMD EPYC 9V74 80-Core Processor
flags\t\t: fpu sse2 fma avx avx2 avx512f avx512bw avx512vl avx512_bf16 avx512_vnni
"""
SAPPHIRE = """model name\t: Intel(R) Xeon(R) Platinum 8480C
flags\t\t: fpu sse2 fma avx avx2 avx512f amx_bf16 avx512_fp16 amx_tile amx_int8
"""
LAKE = """model name\t: Intel(R) Core(TM) Ultra 7 155H
flags\t\t: fpu sse2 fma avx avx2 avx_vnni vaes gfni
"""
GRAVITON_2 = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU part\t: 0xd0c
"""
GRAVITON_3 = """processor\t: 0
Features\t: fp asimd aes asimdhp asimddp sve i8mm svebf16 bf16 dgh rng
CPU part\t: 0xd40
"""
S390 = """vendor_id       : IBM/S390
features\t: esan3 zarch stfle msa ldisp eimm dfp edat etf3eh highgprs te vx vxd vxe gs sie
"""
RISCV = """processor\t: 0
hart\t\t: 1
isa\t\t: rv64imafdc
"""
POWER = """processor\t: 0
cpu\t\t: POWER9, altivec supported
"""


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        pytest.param(HASWELL, True, id="AVX2"),
        pytest.param(SKYLAKE, True, id="AVX512 without BF16"),
        pytest.param(ROME, True, id="Zen 2"),
        pytest.param(LAKE, True, id="a notebook"),
        pytest.param(GENOA, False, id="AVX512-BF16"),
        pytest.param(SAPPHIRE, False, id="AMX-BF16"),
        pytest.param(GRAVITON_2, True, id="ARM without BF16"),
        pytest.param(GRAVITON_3, False, id="ARM with BF16"),
        pytest.param(GENOA + "\n" + GENOA, False, id="two of a kind"),
        pytest.param(GRAVITON_3 + "\n" + GRAVITON_2, True, id="big and little"),
        pytest.param(S390, False, id="unknown: s390"),
        pytest.param(RISCV, False, id="unknown: RISC-V"),
        pytest.param(POWER, False, id="unknown: POWER"),
        pytest.param("", False, id="no such file"),
        pytest.param("flags without a colon", False, id="no such line"),
    ],
)
def test_which_processors_lack_it(text: str, lacks: bool) -> None:
    assert lacks_bfloat16(text) == lacks
    for dtype, device in (("bfloat16", "cpu"), ("float32", "cpu"), ("bfloat16", "gpu"), ("bfloat16", "tpu")):
        told = slow_type(dtype, device, text)
        assert bool(told) == (lacks and (dtype, device) == ("bfloat16", "cpu"))
        if told:
            assert "--model.dtype" in told
            assert "float32" in told
            assert "\n" not in told


@pytest.mark.skipif(platform.system() != "Linux", reason="/proc is Linux's")
def test_this_processor_is_read_as_lscpu_reads_it() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("lscpu names other flags otherwise")
    flags = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.split()
    assert lacks_bfloat16(cpuinfo()) == (not {"avx512_bf16", "amx_bf16"} & set(flags))


def test_the_benchmark_leaves_it_out_and_says_why() -> None:
    every = vs_pytorch.SUITES
    assert vs_pytorch.left_out(every, "cpu", GENOA) == vs_pytorch.left_out(every, "gpu", ROME) == []
    without = vs_pytorch.left_out(every, "cpu", ROME)
    assert without == [Suite(name, "bfloat16") for name in ("full", "prompt", "partial")]
    [said] = vs_pytorch_tables._left_out({"left_out": [str(suite) for suite in without]})
    assert "full-bfloat16, prompt-bfloat16, partial-bfloat16" in said
    assert "AVX512-BF16" in said
    assert vs_pytorch_tables._left_out({"left_out": []}) == vs_pytorch_tables._left_out({}) == []
