"""Defines a fine-tuning strategy: which parameters train, and by which optax transformation.

python examples/custom_scheme.py            # GPT-2 and AG News from the hub
python examples/custom_scheme.py --small    # seconds, offline: a tiny random GPT-2 on generated texts
"""

import argparse

import optax

import flax_agnews as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--small", action="store_true", help="a tiny model and few texts")
small = parser.parse_args().small

model = fa.ModelConfig(name="gpt2")
data = fa.DataConfig(source="fancyzhx/ag_news")
if small:
    model = fa.ModelConfig(from_config={"vocab_size": 400, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2})
    data = fa.DataConfig(source="builtin", max_length=48, limit_train=100, limit_test=60)
layers = 2 if small else 12


def warm(peak: float):
    """AdamW with a learning rate that rises for a tenth of the run, and then decays to zero by a cosine."""

    def from_plan(plan: fa.Plan) -> optax.GradientTransformation:
        schedule = optax.warmup_cosine_decay_schedule(0.0, peak, max(1, plan.steps // 10), plan.steps)
        return optax.adamw(schedule, weight_decay=plan.train.weight_decay)

    return from_plan


# The first pattern that matches a parameter's path applies.
scheme = fa.Strategy.by_pattern(
    "lion_in_the_middle",
    {
        r"transformer/(wte|wpe)/": "frozen",
        fa.layers(0, layers // 2): "frozen",
        r"/ln_": warm(1e-3),  # layer norms allow a high rate
        fa.layers(layers // 2, layers): optax.lion(1e-5, weight_decay=0.1),
        r"^score/": warm(1e-3),
    },
    around=lambda plan: optax.clip_by_global_norm(1.0),
)

print(fa.describe(scheme, model))  # learning rate and weight decay of each parameter, without training

result = fa.fit(scheme, data=data, model=model, seed=0, epochs=1, batch_size=32)
print(f"test accuracy {result.test.accuracy:.3f}, validation by epoch {result.history.val_accuracy}")
