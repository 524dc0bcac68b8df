"""Make a folder with a language model so narrow that computing it costs next to nothing.

    python benchmarks/narrow_llm.py MODEL FOLDER

MODEL is the folder of a real one, whose architecture, tokenizer and chat format are kept: two
layers of 64 dimensions with random weights. On a CPU a real model is bound by arithmetic, and then
nobody who asks can be faster than another. With this one a step takes about as long for one text as
for hundreds, as on a GPU, so that who keeps the server busy shows; its text is noise. Needs
transformers and torch, as vLLM's environment has them.
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a folder, or a name on the hub")
    parser.add_argument("folder", help="where the narrow one is written")
    options = parser.parse_args()
    config = AutoConfig.from_pretrained(options.model)
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 2, 64, 128
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 2, 2, 32
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(options.folder)
    AutoTokenizer.from_pretrained(options.model).save_pretrained(options.folder)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
