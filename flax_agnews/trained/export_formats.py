"""The export formats by name, for the command's help, which is read without JAX; `trained.exports` writes them."""

from collections.abc import Mapping

FORMATS: Mapping[str, str] = {
    "hf": "GPT2ForSequenceClassification and pipelines of transformers",
    "peft": "PeftModel of PEFT, on the run's body",
    "flaxgpt2": "FlaxGPT2Model of transformers 4; the head lies beside the body",
}
"""Name of a format, as in `--to` -> what loads it, in a few words."""
