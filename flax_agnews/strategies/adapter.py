"""Adapters: small bottleneck networks inside the layers and the head train.

`houlsby` (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751): a bottleneck after attention's projection and one
after the MLP's, before the result is added to the residual stream; the body's layer norms train too. `pfeiffer`
(Pfeiffer et al. 2021, https://arxiv.org/abs/2005.00247): only the bottleneck after the MLP; layer norms are frozen.
Bottlenecks have no layer norm inside. The body's dropout comes after the bottleneck instead of after the projection.
"""

from dataclasses import dataclass
from typing import Literal

from flax_agnews.models.gpt2_config import LINEAR_LAYERS, GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate, in_head, require


@dataclass
class AdapterSettings:
    """Adapters: bottleneck networks inside the layers and the head train.

    Args:
        learning_rate: Learning rate of all trained parameters; one of the three that Houlsby et al. try on GLUE (3e-5,
            3e-4, 3e-3).
        placement: `houlsby`: a bottleneck after attention and one after the MLP, and the layer norms train too;
            `pfeiffer`: only the bottleneck after the MLP, and the layer norms are frozen.
        reduction: Width of the body divided by that of a bottleneck, which is rounded down; 16 is Pfeiffer et al.'s.
        top_layers: Number of layers with adapters, counted from the top; the frozen layers below are computed once for
            all epochs. By default all.
    """

    learning_rate: float = 3e-4
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    reduction: int = 16
    top_layers: int | None = None


_PLACES = {"houlsby": ("attn.c_proj", "mlp.c_proj"), "pfeiffer": ("mlp.c_proj",)}


def build(settings: AdapterSettings, config: GPT2Config) -> Strategy:
    """Adds bottlenecks, at first nearly the identity; they and the head train, with `houlsby` the layer norms too."""
    import jax  # this and what follows is imported here so that the settings are read without JAX
    from jaxtyping import Array, Key

    from flax_agnews.models.bottleneck import Bottleneck, first_linear
    from flax_agnews.models.classifier import ClassifierModule
    from flax_agnews.models.layers import Linear
    from flax_agnews.models.linear_replacement import replaced

    width, top, layers = config.n_embd, settings.top_layers, config.n_layer
    require(1 <= settings.reduction <= width, "adapter.reduction", settings.reduction, f"1 to {width}, the width")
    require(top is None or 1 <= top <= layers, "adapter.top_layers", top, f"1 to {layers}, the model's layers")
    bottom = 0 if top is None else layers - top
    houlsby = settings.placement == "houlsby"
    # Houlsby's code uses the body's activation, Pfeiffer's ReLU.
    activation = config.activation_function if houlsby else "relu"

    def adapt(model: ClassifierModule, key: Key[Array, ""]) -> ClassifierModule:
        def change(layer: int, name: str, plain: Linear) -> Linear:
            if layer < bottom or name not in _PLACES[settings.placement]:
                return plain
            own = jax.random.fold_in(key, layer * len(LINEAR_LAYERS) + LINEAR_LAYERS.index(name))
            inner, down, up = width // settings.reduction, *jax.random.split(own)
            return Bottleneck(plain, first_linear(down, width, inner), first_linear(up, inner, width), activation)

        return replaced(model, change)

    def trains(path: str) -> bool:
        if path.startswith("transformer/h/"):
            norm = houlsby and "/ln_" in path and int(path.split("/")[2]) >= bottom
            return norm or "/adapter_" in path
        return in_head(path) or (houlsby and path.startswith("transformer/ln_f/"))

    return at_one_rate("adapter", settings, trains, adapt=adapt)


ADAPTER = Entry(
    "adapter", AdapterSettings, build, "bottlenecks in layers, norms and head", "https://arxiv.org/abs/1902.00751"
)
