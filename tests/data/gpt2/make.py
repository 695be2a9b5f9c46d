"""Makes the goldens of this folder, with random weights: a tiny GPT2Model of Hugging Face transformers, and a tiny
LLM4WM around it, put together here from torch's layers in the order of its published code."""

import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import GPT2Config, GPT2Model

WIDTH, LAYERS, SLOTS, MODALITIES, COUNT, INPUT = 24, 2, 2, 3, 2, 4
EXPERTS, RANK, EMBEDDING, SCALING = 3, 2, 5, 2.0
LENGTH = SLOTS * MODALITIES * COUNT
TASKS = {"beam": 5, "pose": 6}

torch.manual_seed(7)


def stir(module, by):
    """Wider than it starts, so that norms, biases and the form of the GELU matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return module.eval()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear1 = nn.Conv1d(LENGTH, LENGTH, 3, padding=1)
        self.linear2 = nn.Conv1d(LENGTH, LENGTH, 3, padding=1)

    def forward(self, x):
        return x + self.linear2(torch.relu(self.linear1(x)))


class Adapter(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.projection = nn.Linear(inputs, WIDTH)
        self.stack1 = nn.Sequential(Residual(), Residual())
        self.stack2 = nn.Sequential(Residual(), Residual())
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        return self.norm(self.stack2(torch.relu(self.stack1(self.projection(x)))))


class MoeLora(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.lora_A = nn.Linear(inputs, EXPERTS * RANK, bias=False)
        self.lora_B = nn.Linear(EXPERTS * RANK, outputs, bias=False)
        self.gate = nn.Linear(EMBEDDING, EXPERTS, bias=False)
        self.embedding = nn.ParameterDict({task: torch.randn(EMBEDDING) for task in TASKS})

    def forward(self, x, task):
        shares = torch.softmax(self.gate(self.embedding[task]), 0)
        added = 0
        for expert in range(EXPERTS):
            own = slice(expert * RANK, (expert + 1) * RANK)
            added = added + shares[expert] * (x @ self.lora_A.weight[own].T @ self.lora_B.weight[:, own].T)
        return SCALING * added


class Llm4Wm(nn.Module):
    def __init__(self, gpt2):
        super().__init__()
        self.gpt2 = gpt2
        self.adapter = nn.ModuleDict(
            {task: nn.ModuleDict({"input": Adapter(INPUT + 2), "output": Adapter(WIDTH)}) for task in TASKS}
        )
        self.head = nn.ModuleDict({task: nn.Linear(LENGTH * WIDTH, outputs) for task, outputs in TASKS.items()})
        self.lora = nn.ModuleDict()
        self.task = None
        for number, layer in enumerate(gpt2.h):
            for name, module, inputs, outputs in [
                ("attn.c_proj", layer.attn.c_proj, WIDTH, WIDTH),
                ("mlp.c_fc", layer.mlp.c_fc, WIDTH, 4 * WIDTH),
                ("mlp.c_proj", layer.mlp.c_proj, 4 * WIDTH, WIDTH),
            ]:
                experts = MoeLora(inputs, outputs)
                self.lora[f"h.{number}.{name}".replace(".", "/")] = experts
                module.register_forward_hook(
                    lambda _, args, output, experts=experts: output
                    if self.task is None
                    else output + experts(args[0], self.task)
                )

    def forward(self, values, mask, ages, task):
        rows = values.shape[0]
        values = values * mask.unsqueeze(-1)
        ages = ages.unsqueeze(-1).expand_as(mask) * mask
        x = torch.cat([values, mask.unsqueeze(-1), ages.unsqueeze(-1)], -1).reshape(rows, LENGTH, INPUT + 2)
        self.task = task
        x = self.gpt2(inputs_embeds=self.adapter[task]["input"](x)).last_hidden_state
        self.task = None
        return self.head[task](self.adapter[task]["output"](x).flatten(1))


config = GPT2Config(
    n_embd=WIDTH, n_layer=LAYERS, n_head=3, n_positions=20, vocab_size=4, attn_implementation="eager"
)
gpt2 = stir(GPT2Model(config), 0.3)
whole = stir(Llm4Wm(gpt2), 0.1)
folder = pathlib.Path(__file__).parent
with torch.no_grad():
    inputs = torch.randn(2, 17, WIDTH)
    output = gpt2(inputs_embeds=inputs).last_hidden_state
    values = torch.randn(2, SLOTS, MODALITIES, COUNT, INPUT)
    mask = (torch.rand(2, SLOTS, MODALITIES, COUNT) > 0.3).float()
    ages = torch.rand(2, SLOTS, MODALITIES)
    said = {task: whole(values, mask, ages, task) for task in TASKS}
weights = {name: tensor.contiguous() for name, tensor in gpt2.state_dict().items() if "wte" not in name}
save_file(weights, folder / "model.safetensors")
save_file({"inputs_embeds": inputs, "last_hidden_state": output.contiguous()}, folder / "golden.safetensors")
weights = {
    name.replace("/", "."): tensor.contiguous()
    for name, tensor in whole.state_dict().items()
    if not name.startswith("gpt2.")
}
save_file(weights, folder / "llm4wm.model.safetensors")
save_file({"values": values, "mask": mask, "ages": ages, **said}, folder / "llm4wm.golden.safetensors")
