"""Makes the golden of this folder: a tiny GPT2Model of Hugging Face transformers with random weights."""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2Model

torch.manual_seed(7)
config = GPT2Config(n_embd=24, n_layer=2, n_head=3, n_positions=20, vocab_size=4, attn_implementation="eager")
model = GPT2Model(config).eval()
with torch.no_grad():
    # Wider than they start, so that norms, biases and the form of the GELU matter.
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    inputs = torch.randn(2, 17, 24)
    output = model(inputs_embeds=inputs).last_hidden_state
folder = pathlib.Path(__file__).parent
weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if "wte" not in name}
save_file(weights, folder / "model.safetensors")
save_file({"inputs_embeds": inputs, "last_hidden_state": output.contiguous()}, folder / "golden.safetensors")
