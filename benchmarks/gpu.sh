#!/usr/bin/env bash
# All benchmarks that matter on a GPU, in at most TOTAL seconds (10 minutes): profile, throughput, beside PyTorch at 128
# and 512 texts, and last the whole experiment with what time is left.
#
#   benchmarks/gpu.sh RESULTS          one folder of results, with a log of each part
#   SMOKE=1 benchmarks/gpu.sh RESULTS  tiny forms of all parts, also without a GPU
#
# Environment variables (default): DATA (../shared/ag_news_large), TOKENIZER (../shared/gpt2_tokenizer), PYTHON (python),
# PARTS (all), TOTAL (600 seconds), LIMIT_<part> (seconds of a part), MICRO (65536, most tokens computed at once),
# SHAPES (2, of throughput and beside PyTorch), WHOLE (more arguments of benchmarks.experiment, such as "--runs 1"). A part that fails, or takes too long, doesn't stop the others.
set -u
results=${1:?"usage: benchmarks/gpu.sh RESULTS"}
mkdir -p "$results/logs"
results=$(realpath "$results")
cd "$(dirname "$0")/.."
data=${DATA:-../shared/ag_news_large} tokenizer=${TOKENIZER:-../shared/gpt2_tokenizer}
parts=${PARTS:-profile throughput vs_pytorch_128 vs_pytorch_512 experiment}
python=${PYTHON:-python} micro=${MICRO:-65536} shapes=${SHAPES:-2}
cache=$(mktemp -d) # of all parts but the experiment: the first one finds out what is fast on this device
trap 'rm -rf "$cache"' EXIT

texts="--data $data --tokenizer $tokenizer"
if [ "${SMOKE:-}" ]; then
  model={\"n_layer\":1,\"n_embd\":16,\"n_head\":2,\"n_positions\":300}
  large=2 small=2 sizes=2 dropouts=0.1 micro=4096 shapes=1 others=prompt-bfloat16
  size="--models $model --repeats 1" versus="--model $model --repeats 1"
  whole="--model $model --runs 1 --epochs 1 --rows 80" patience=10 # on a busy CPU
else
  large=512 small=128 sizes="512 128" dropouts="0 0.1" others=partial-bfloat16,prompt-bfloat16
  size="--repeats 5" versus="--repeats 4" whole="" patience=1
fi
total=${TOTAL:-$((600 * patience))}

left() { echo $((total - SECONDS)); }

# Runs a part: its name, the most seconds it may take, and the module with its arguments.
part() {
  local name=$1 variable=LIMIT_$1 limit
  limit=${!variable:-$(($2 * patience))}
  shift 2
  case " $parts " in *" $name "*) ;; *) return ;; esac
  [ "$limit" -le "$(left)" ] || limit=$(left)
  [ "$limit" -gt 10 ] || { echo "$name: no time left" | tee -a "$results/parts.txt"; return; }
  local started=$SECONDS code
  timeout --kill-after=10 "$limit" "$python" -m "$@" >"$results/logs/$name.log" 2>&1
  code=$?
  echo "$name: $((SECONDS - started)) s of at most $limit, exit code $code" | tee -a "$results/parts.txt"
  [ $code -eq 0 ] || tail -n 5 "$results/logs/$name.log"
}

: >"$results/parts.txt"
(nvidia-smi || true) >"$results/logs/nvidia-smi.txt" 2>&1
# Unquoted variables are lists of arguments; none of them has spaces in it.
# shellcheck disable=SC2086
{
  common="--dtypes bfloat16 --micro_batch_tokens $micro --cache $cache"
  part profile 130 benchmarks.profile $texts $size $common --batch_sizes $large --dropouts $dropouts --results "$results"
  part throughput 110 benchmarks.throughput $texts $size $common --batch_sizes $sizes --dropouts $dropouts \
    --strategies full --shapes $shapes --results "$results"
  common="--micro_batch_tokens $micro --cache $cache --shapes $shapes"
  part vs_pytorch_128 190 benchmarks.vs_pytorch $texts $versus $common --batch_size $small --suites full-bfloat16 \
    --limit 150 --compile_limit 90 --results "$results/vs_pytorch_128"
  part vs_pytorch_512 120 benchmarks.vs_pytorch $texts $versus $common --batch_size $large --without torch.compile \
    --suites $others --limit 90 --results "$results/vs_pytorch_512"
  part experiment 600 benchmarks.experiment $texts $whole --limit $(($(left) - 20)) ${WHOLE:-} \
    --results "$results"
}
