"""Times the whole `edge` frame, steps of its training, backbones of 8 layers and single operations of this project, PyTorch
and ONNX Runtime on the same weights, one after the other in one run.

    python3 -m venv ENV && ENV/bin/pip install -r tools/yardstick-requirements.txt
    cargo bench --bench edge --no-run               # prints the path of the bench
    ENV/bin/python tools/yardstick_edge.py BENCH [--rounds 3] [--threads 2] [--only GROUP]

The bench writes weights, inputs and its outputs. Everybody's outputs have to be as ours before anything is timed. Each
round times all of them in turn; what is printed is the median of the rounds' medians, and the ratio to ours.

What is counted. `edge-frame` is ours from readings to probabilities: resizing the image, thinning the clouds, finding
neighbours, five encoders, the tokens of four kept slots, everything behind them. For the others it is the same network
on ready tensors ("without search"), and with their own resizing, thinning and neighbours before it. `edge-network` is
the network on ready tensors for everybody. What the others get for free: batch norms are folded into the linear layers
beforehand, what depends on the prompts alone is computed beforehand, keys and values of the sensors are computed once
per frame and of the last layer one token alone, as ours does.

`training-PART` is forward and back, of a batch of eight readings for an encoder (ours with its search for neighbours,
PyTorch with ready ones) and of one row for what is behind the encoders: outputs, and the gradients of all weights as
PyTorch computes them in 64 bits, have to be as ours.
"""

import argparse
import copy
import io
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import tomllib
import warnings

import numpy
import onnxruntime
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

import yardstick
import yardstick_points
from yardstick import median_ms

CLOSE = 1e-4
TRAINED_CLOSE = 5e-3
MODALITIES = ("camera", "radar", "lidar", "link", "position")
# Whether the tokens of a modality say where they are.
ORDERED = (1.0, 0.0, 0.0, 1.0, 1.0)
OUTPUTS = {"beam": 64, "blockage": 4, "activity": 27, "pose": 51}
SLOTS = 5
FEATURES = {"radar": 7, "lidar": 3}
FREQUENCIES, LONGEST_PERIOD_S = 8, 4.0
MASKED = -1e9


def mlp(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class ImageEncoder(yardstick.ResNet18):
    def __init__(self, config, width, grid):
        super().__init__(config["network"]["stem"], config["network"]["channels"])
        self.grid = grid
        self.projection = nn.Linear(config["network"]["channels"][-1], width)

    def forward(self, image):
        features = F.adaptive_avg_pool2d(super().forward(image), self.grid)
        return self.projection(features.flatten(2).transpose(1, 2))[0]


class PointEncoder(yardstick_points.Encoder):
    def __init__(self, config, inputs, width):
        super().__init__(inputs, config["widths"])
        self.projection = nn.Linear(config["widths"][-1], width)
        self.empty = nn.Parameter(torch.empty(1, width))

    def forward(self, features, hierarchy):
        return self.projection(super().forward(features, hierarchy))


class LinkEncoder(nn.Module):
    def __init__(self, tokens, width, features=2080, hidden=224, share=32):
        super().__init__()
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, tokens * share)
        self.tokens = nn.ParameterDict({"weight": torch.empty(tokens, share, width),
                                        "bias": torch.empty(tokens, 1, width)})

    def forward(self, reports):
        x = F.gelu(self.second(F.gelu(self.first(reports))))
        tokens, share, _ = self.tokens["weight"].shape
        return (x.view(tokens, 1, share) @ self.tokens["weight"] + self.tokens["bias"])[:, 0]


class Fusion(nn.Module):
    def __init__(self, slots, width, heads, tokens):
        super().__init__()
        self.heads = heads
        self.place = nn.Parameter(torch.empty(len(MODALITIES), tokens, width))
        self.register_buffer("ordered", torch.tensor(ORDERED).view(-1, 1, 1), persistent=False)
        self.modality = nn.Parameter(torch.empty(len(MODALITIES), width))
        self.slot = nn.Parameter(torch.empty(slots, width))
        self.age = nn.Linear(2 * FREQUENCIES, width)
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(width, width))
        turns = [torch.pi * 2 ** (octave + 1) / LONGEST_PERIOD_S for octave in range(FREQUENCIES)]
        self.register_buffer("turns", torch.tensor(turns), persistent=False)

    def forward(self, values, mask, ages, weights):
        rows, slots, modalities, count, width = values.shape
        phase = ages[..., None] * self.turns
        place = self.age(torch.cat([phase.sin(), phase.cos()], -1)) + (self.slot[:, None] + self.modality)
        place = place[:, :, :, None] + self.place * self.ordered
        x = (values * weights[..., None, None] + place).reshape(rows, -1, width)
        q, k, v = (part(x).view(rows, -1, self.heads, width // self.heads).transpose(1, 2)
                   for part in (self.query, self.key, self.value))
        penalty = ((mask - 1.0) * -MASKED).reshape(rows, 1, 1, -1)
        seen = F.scaled_dot_product_attention(q, k, v, penalty.expand(rows, 1, x.shape[1], x.shape[1]))
        return x + self.output(seen.transpose(1, 2).reshape(rows, -1, width))


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class PlainRmsNorm(RmsNorm):
    """In the steps that ONNX Runtime fuses."""

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class TextMlp(nn.Module):
    def __init__(self, hidden, inside):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inside, bias=False)
        self.up_proj = nn.Linear(hidden, inside, bias=False)
        self.down_proj = nn.Linear(inside, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextAttention(nn.Module):
    def __init__(self, size, crossing):
        super().__init__()
        hidden, self.heads, self.groups = size["hidden_size"], size["heads"], size["kv_heads"]
        self.dim = hidden // self.heads
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)
        if crossing:
            self.q_norm = RmsNorm(self.dim, size["rms_norm_eps"])
            self.k_norm = RmsNorm(self.dim, size["rms_norm_eps"])


def rotate(x, cos, sin):
    """Half-split rotation of `[.., T, D]`."""
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class SelfLayer(nn.Module):
    def __init__(self, size):
        super().__init__()
        hidden, eps = size["hidden_size"], size["rms_norm_eps"]
        self.self_attn = TextAttention(size, False)
        self.input_layernorm = RmsNorm(hidden, eps)
        self.post_attention_layernorm = RmsNorm(hidden, eps)
        self.mlp = TextMlp(hidden, size["intermediate_size"])

    def forward(self, x, cos, sin, ahead):
        own = self.self_attn
        rows, length, hidden = x.shape
        y = self.input_layernorm(x)
        q = own.q_proj(y).view(rows, length, own.heads, own.dim).transpose(1, 2)
        k = own.k_proj(y).view(rows, length, own.groups, own.dim).transpose(1, 2)
        v = own.v_proj(y).view(rows, length, own.groups, own.dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # Heads that share keys stand beside each other: one run of rows each.
        q = q.reshape(rows, own.groups, -1, own.dim)
        seen = F.scaled_dot_product_attention(q, k, v, ahead.expand(rows, 1, -1, -1))
        seen = seen.reshape(rows, own.heads, length, own.dim).transpose(1, 2).reshape(rows, length, hidden)
        x = x + own.o_proj(seen)
        return x + self.mlp(self.post_attention_layernorm(x))


class CrossLayer(nn.Module):
    def __init__(self, size):
        super().__init__()
        hidden, eps = size["hidden_size"], size["rms_norm_eps"]
        self.cross_attn = TextAttention(size, True)
        self.input_layernorm = RmsNorm(hidden, eps)
        self.cross_attn_attn_gate = nn.Parameter(torch.empty(1))
        self.post_attention_layernorm = RmsNorm(hidden, eps)
        self.mlp = TextMlp(hidden, size["intermediate_size"])
        self.cross_attn_mlp_gate = nn.Parameter(torch.empty(1))

    def forward(self, x, tokens, penalty):
        """All rows look at the tokens `[N, hidden]` of one sample."""
        own = self.cross_attn
        rows, length, hidden = x.shape
        k = own.k_norm(own.k_proj(tokens).view(1, -1, own.groups, own.dim).transpose(1, 2))
        v = own.v_proj(tokens).view(1, -1, own.groups, own.dim).transpose(1, 2)
        q = own.q_norm(own.q_proj(self.input_layernorm(x)).view(rows * length, own.groups, -1, own.dim))
        # [R·T, KV, G, D] → [1, KV, R·T·G, D]
        q = q.transpose(0, 1).reshape(1, own.groups, -1, own.dim)
        seen = F.scaled_dot_product_attention(q, k, v, penalty.expand(1, 1, q.shape[2], -1))
        seen = seen.reshape(own.groups, rows * length, -1, own.dim).transpose(0, 1)
        x = x + self.cross_attn_attn_gate.tanh() * own.o_proj(seen.reshape(rows, length, hidden))
        return x + self.cross_attn_mlp_gate.tanh() * self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """`forward` is every layer over every token; `look` is what a frame costs once `prepare` has seen the prompts."""

    def __init__(self, size):
        super().__init__()
        self.cross = size["cross_layers"]
        self.embed_tokens = nn.Embedding(size["embeddings"], size["hidden_size"])
        self.layers = nn.ModuleList((CrossLayer if number in self.cross else SelfLayer)(size)
                                    for number in range(size["layers"]))
        self.norm = RmsNorm(size["hidden_size"], size["rms_norm_eps"])
        dim = size["hidden_size"] // size["heads"]
        self.turns = size["rope"]["theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        self.turns = self.turns.float()
        self.sharing = size["heads"] // size["kv_heads"]

    def place(self, length):
        angles = torch.arange(length, dtype=torch.float32)[:, None] * self.turns
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        ahead = torch.full((length, length), MASKED).triu(1).repeat(self.sharing, 1)
        self.register_buffer("ahead", ahead, persistent=False)

    def through(self, layer, x):
        return layer(x, self.cos, self.sin, self.ahead)

    def prepare(self, ids, mask, taps):
        """Keeps what depends on the prompts alone."""
        self.place(ids.shape[1])
        self.tapped = taps.tolist()
        self.register_buffer("states", self.prefix(ids).detach(), persistent=False)
        self.register_buffer("lasts", torch.arange(len(ids)) * ids.shape[1] + mask.sum(1) - 1, persistent=False)

    def prefix(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.layers[:self.cross[0]]:
            x = self.through(layer, x)
        return x

    def look(self, tokens, penalty, states=None):
        """The taps `[R, hidden]` of each prompt's last token; the last layer has to be a tapped cross layer."""
        x, found = self.states if states is None else states, []

        def last(x):
            return x.flatten(0, 1)[self.lasts]

        for number in range(self.cross[0], len(self.layers)):
            if number + 1 == len(self.layers):
                x = last(x)[:, None]
            layer = self.layers[number]
            x = layer(x, tokens, penalty) if number in self.cross else self.through(layer, x)
            if number + 1 == len(self.layers):
                found.append(self.norm(x[:, 0]))
            elif number in self.tapped:
                found.append(last(x))
        return found

    def forward(self, x):
        for layer in self.layers:
            x = self.through(layer, x)
        return self.norm(x)


class Looking(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, tokens):
        return torch.stack(self.backbone.look(tokens[0], tokens.new_zeros(1, 1, 1, tokens.shape[1])))


class ChannelNorm(nn.BatchNorm1d):
    """A single row goes by the running statistics in training, too."""

    def forward(self, x):
        if self.training and len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Step(nn.Module):
    def __init__(self, inputs, hidden, width):
        super().__init__()
        self.norm = ChannelNorm(hidden)
        self.weigh = mlp(inputs, width, inputs)
        self.mix = nn.Linear(inputs, width)


class Reader(nn.Module):
    """Eq. 12–13 and the head of a task."""

    def __init__(self, taps, hidden, width, outputs):
        super().__init__()
        self.attention = nn.ModuleList(Step(hidden + (width if tap else 0), hidden, width) for tap in range(taps))
        self.head = nn.ModuleDict({"norm": ChannelNorm(width), "mlp": mlp(width, width, outputs)})

    def forward(self, taps):
        z = None
        for step, hidden in zip(self.attention, taps):
            x = step.norm(hidden)
            x = x if z is None else torch.cat([z, x], -1)
            z = step.mix(torch.sigmoid(step.weigh(x)) * x)
        return self.head["mlp"](self.head["norm"](z))


class Edge(nn.Module):
    """The `edge` network, asked for beam and blockage of one user."""

    def __init__(self, config):
        super().__init__()
        width, grid = config["width"], config["grid"]
        encoders, size = config["encoders"], config["backbone"]["size"]
        self.image = ImageEncoder(encoders["image"], width, grid)
        self.radar = PointEncoder(encoders["radar"], FEATURES["radar"], width)
        self.lidar = PointEncoder(encoders["lidar"], FEATURES["lidar"], width)
        self.link = LinkEncoder(grid * grid, width)
        self.position = mlp(8, width, grid * grid * width)
        self.norm = nn.ModuleDict({name: nn.LayerNorm(width) for name in MODALITIES})
        self.gate = mlp(len(MODALITIES) * (width + 2), width, len(MODALITIES))
        self.fusion = Fusion(SLOTS, width, config["core"]["heads"], grid * grid)
        self.projector = mlp(width, 2 * width, size["hidden_size"])
        self.backbone = Backbone(size)
        self.tasks = nn.ModuleDict({task: Reader(4, size["hidden_size"], config["core"]["task_width"], outputs)
                                    for task, outputs in OUTPUTS.items()})

    def encode(self, image, radar, lidar, reports, position):
        parts = (self.image(image), self.radar(*radar), self.lidar(*lidar), self.link(reports),
                 self.position(position).view(-1, self.gate[0].out_features))
        return torch.stack([self.norm[name](part) for name, part in zip(MODALITIES, parts)])

    def conclude(self, values, mask, ages, states=None):
        """Behind the encoders: tokens `[1, W, D, n_f, d]`, their mask `[1, W, D, n_f]`, ages `[1, W, D]`."""
        counted = mask[..., None]
        means = (values * counted).sum(3) / counted.sum(3).clamp(min=1.0)
        present = mask.amax(3)
        seen = (means * present[..., None]).flatten(2)
        scores = self.gate(torch.cat([seen, ages * present, present], -1))
        weights = (scores + (present - 1.0) * -MASKED).softmax(-1) * present
        fused = self.fusion(values, mask, ages, weights)
        penalty = ((mask - 1.0) * -MASKED).reshape(1, 1, 1, -1)
        taps = self.backbone.look(self.projector(fused)[0], penalty, states)
        beam, blockage = (self.tasks[task]([tap[row:row + 1] for tap in taps])
                          for row, task in enumerate(("beam", "blockage")))
        return beam[0], blockage[0], weights[0, -1]


class Part(nn.Module):
    """A part of the network with plain tensors in and out."""

    def __init__(self, edge, part):
        super().__init__()
        self.edge, self.part = edge, part

    def forward(self, *inputs):
        edge, part = self.edge, self.part
        if part == "image":
            return edge.norm["camera"](edge.image(*inputs))
        if part in FEATURES:
            return edge.norm[part](getattr(edge, part)(inputs[0], levels(inputs[1:])))
        if part == "link":
            return edge.norm["link"](edge.link(*inputs))
        if part == "position":
            return edge.norm["position"](edge.position(*inputs).view(-1, edge.gate[0].out_features))
        if part == "core":
            return edge.conclude(*inputs)
        image, rest = inputs[0], inputs[1:]
        (radar, lidar), rest = (rest[:9], rest[9:21]), rest[21:]
        reports, position, kept, mask, ages = rest
        new = edge.encode(image, (radar[0], levels(radar[1:])), (lidar[0], levels(lidar[1:])), reports, position)
        return edge.conclude(torch.cat([kept, new[None]])[None], mask, ages)


def levels(flat):
    """positions, within; positions, within, before; … to one tuple per level."""
    found = [(flat[0], flat[1], None)]
    for at in range(2, len(flat), 3):
        found.append(tuple(flat[at:at + 3]))
    return found


def flat_scan(tensors, name):
    found, number = [tensors[f"{name}.features"]], 0
    while f"{name}.{number}.positions" in tensors:
        found += [tensors[f"{name}.{number}.{part}"] for part in ("positions", "within", "before")
                  if f"{name}.{number}.{part}" in tensors]
        number += 1
    return found


def folded(module):
    """Batch norms after linear layers and convolutions become part of them; returns the module."""
    def one(parent, dense, norm, fuse):
        setattr(parent, dense, fuse(getattr(parent, dense), getattr(parent, norm)))
        setattr(parent, norm, nn.Identity())

    for part in list(module.modules()):
        if isinstance(part, (yardstick.ResNet18, yardstick.Block)):
            one(part, "conv1", "bn1", fuse_conv_bn_eval)
        if isinstance(part, yardstick.Block):
            one(part, "conv2", "bn2", fuse_conv_bn_eval)
            if part.downsample is not None:
                one(part.downsample, "0", "1", fuse_conv_bn_eval)
        if isinstance(part, yardstick_points.Down):
            one(part, "linear", "bn", fuse_linear_bn_eval)
        if isinstance(part, yardstick_points.Block):
            one(part, "linear1", "bn1", fuse_linear_bn_eval)
            one(part, "linear3", "bn3", fuse_linear_bn_eval)
        if isinstance(part, yardstick_points.Attention):
            one(part.linear_p, "0", "1", fuse_linear_bn_eval)
            one(part.linear_w, "2", "3", fuse_linear_bn_eval)
    return module


def with_plain_norms(module):
    for part in module.modules():
        if type(part) is RmsNorm:
            part.__class__ = PlainRmsNorm
    return module


# What the network does not do: resizing, thinning, neighbours, in numpy and torch.

def farthest(points, count):
    """As yardstick_points.farthest; from a few points, of distances that are all computed at once."""
    axes = numpy.ascontiguousarray(points.T)
    every = None
    if len(points) <= 1024:
        every = sum((axis[:, None] - axis[None]) ** 2 for axis in axes)
    near = numpy.full(len(points), numpy.inf, numpy.float32)
    offset, own = numpy.empty_like(axes), numpy.empty_like(near)
    chosen = numpy.zeros(count, numpy.int64)
    for place in range(1, count):
        last = chosen[place - 1]
        if every is None:
            numpy.subtract(axes, axes[:, last:last + 1], out=offset)
            numpy.einsum("an,an->n", offset, offset, out=own)
        numpy.minimum(near, own if every is None else every[last], out=near)
        chosen[place] = near.argmax()
    return chosen


def nearest(queries, points, count):
    distances = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
    if len(points) < count:
        return F.pad(distances.argsort(), (0, count - len(points)))
    return distances.topk(count, largest=False).indices


def search(points, features, config):
    """A cloud in metres to the inputs of an encoder; `features` of the thinned cloud are given, where it has others."""
    most = config["points"][0]
    points = numpy.clip(points / 50.0, -20.0, 20.0, dtype=numpy.float32)
    candidates = points[::max(1, -(-len(points) // (4 * most)))]
    cloud = candidates if len(candidates) <= most else candidates[farthest(candidates, most)]
    found, above = [torch.from_numpy(cloud) if features is None else features], None
    for number, size in enumerate(config["points"]):
        if number:
            cloud = cloud[farthest(cloud, size)]
        here = torch.from_numpy(cloud)
        found += [here, nearest(here, here, config["neighbours"])]
        if number:
            found.append(nearest(here, above, config["neighbours"]))
        above = here
    return found


MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def resize(image, side):
    """Bytes `[H, W, 3]` to a normalised square; torch's fastest way, not to the bit ours."""
    small = F.interpolate(image.permute(2, 0, 1)[None], (side, side), mode="bilinear", antialias=True)
    return (small.float() / 255.0 - MEAN) / DEVIATION


# Timing.

def difference(found, wanted):
    """The largest difference, of the largest number."""
    found, wanted = (torch.as_tensor(x).double().flatten() for x in (found, wanted))
    return float((found - wanted).abs().max() / wanted.abs().max())


class Torch:
    """A module on its inputs."""

    def __init__(self, module, inputs):
        self.module, self.inputs = module, inputs

    def __call__(self, *first):
        """With other inputs in the place of the first ones, where there are any."""
        with torch.inference_mode():
            return self.module(*first, *self.inputs[len(first):])


class Session:
    """The same as a graph of ONNX Runtime."""

    def __init__(self, module, inputs, threads):
        names, file = [f"x{place}" for place in range(len(inputs))], io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, tuple(inputs), file, input_names=names, opset_version=17, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        taken = {x.name for x in self.session.get_inputs()}
        self.feed = {name: x.numpy() for name, x in zip(names, inputs) if name in taken}

    def __call__(self, *first):
        feed = dict(self.feed)
        feed.update((f"x{place}", x.numpy()) for place, x in enumerate(first) if f"x{place}" in feed)
        return self.session.run(None, feed)


def runners(module, plain, inputs, options):
    """Calls of PyTorch and ONNX Runtime; `plain` is the module in the steps that ONNX Runtime fuses."""
    module.eval()
    plain.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit = torch.jit.freeze(torch.jit.trace(module, tuple(inputs), check_trace=False))
    found = {"PyTorch": module, "PyTorch, jit": jit}
    calls = {who: Torch(run, inputs) for who, run in found.items()}
    calls["ONNX Runtime"] = Session(plain, inputs, options.threads)
    return calls


def check(name, calls, wanted):
    """Everybody says what we say."""
    apart = {}
    for who, call in calls.items():
        found = call()
        found = found if isinstance(found, (tuple, list)) else [found]
        apart[who] = max(difference(x, y) for x, y in zip(found, wanted, strict=True))
    print(f"{name:24} largest relative difference: " + ", ".join(f"{who} {far:.1e}" for who, far in apart.items()),
          flush=True)
    worst = max(apart.values())
    if not worst <= CLOSE:
        raise SystemExit(f"{name}: found a difference of {worst:.1e}, allowed is {CLOSE:.0e}")


def run_bench(bench, folder, arguments):
    environment = dict(os.environ, CRITERION_HOME=str(folder / "criterion"))
    if "--test" in arguments:
        environment["YARDSTICK"] = str(folder)
    subprocess.run([bench, "--bench", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def ours_ms(bench, folder, name):
    run_bench(bench, folder, [f"^{name}/"])
    estimates = json.loads((folder / "criterion" / name / "ours" / "new" / "estimates.json").read_text())
    return estimates["median"]["point_estimate"] / 1e6


def load(module, folder, name):
    module.load_state_dict({**{key: value for key, value in module.state_dict().items() if "num_batches" in key},
                            **load_file(folder / f"{name}.safetensors")})
    return folded(module.eval().requires_grad_(False))


def edge(folder, options):
    """Name, calls and outputs of the whole frame and its parts."""
    config = tomllib.loads((pathlib.Path(__file__).parent.parent / "config/models/edge.toml").read_text())
    given = load_file(folder / "edge-frame.safetensors")
    pair = []
    for _ in range(2):
        network = load(Edge(config), folder, "edge")
        # Prompts of the two tasks that are asked for; padding to the longest of all stays, as it is ours.
        network.backbone.prepare(given["prompts.ids"][:2], given["prompts.mask"][:2], given["taps"])
        pair.append(network)
    network, plain = pair[0], with_plain_norms(pair[1])
    tokens = given["out.tokens"]
    scans = {name: flat_scan(given, name) for name in FEATURES}
    rest = [given[name] for name in ("link", "position", "kept", "mask", "ages")]
    said = [given[name] for name in ("out.beam", "out.blockage", "out.gate")]
    new = dict(zip(MODALITIES, tokens[0, -1]))
    inputs = {
        "network": ([given["image"], *scans["radar"], *scans["lidar"], *rest], said),
        "image": ([given["image"]], [new["camera"]]),
        "radar": (scans["radar"], [new["radar"]]),
        "lidar": (scans["lidar"], [new["lidar"]]),
        "link": ([given["link"]], [new["link"]]),
        "position": ([given["position"]], [new["position"]]),
        "core": ([tokens, given["mask"], given["ages"]], said),
    }
    cases = {}
    for part, (tensors, wanted) in inputs.items():
        calls = runners(Part(network, part), Part(plain, part), tensors, options)
        check(f"edge-{part}", calls, wanted)
        cases[f"edge-{part}"] = calls

    encoders = config["encoders"]
    raw = {name: given[f"raw.{name}"].numpy() for name in FEATURES}
    side = encoders["image"]["side"]

    def prepare():
        with torch.inference_mode():
            return [resize(given["raw.image"], side),
                    *search(raw["radar"], given["radar.features"], encoders["radar"]),
                    *search(raw["lidar"], None, encoders["lidar"])]

    same = [float((x == y).float().mean()) for x, y in zip(prepare()[1:], [*scans["radar"], *scans["lidar"]])]
    print(f"own search: {min(same):.3f} or more of each index and coordinate as ours; "
          f"own image {difference(prepare()[0], given['image']):.1e} from ours")
    cases["edge-resize"] = {"PyTorch": lambda: resize(given["raw.image"], side)}
    cases["edge-search"] = {"numpy and PyTorch": lambda: (
        search(raw["radar"], given["radar.features"], encoders["radar"]),
        search(raw["lidar"], None, encoders["lidar"]))}
    frame = {}
    for who, call in cases["edge-network"].items():
        frame[f"{who}, without search"] = call
        frame[who] = lambda call=call: call(*prepare())
    return {"edge-frame": frame, **cases}


class Training:
    """A step of training of a part: forward, and all gradients of Σ output · numbers."""

    def __init__(self, network, part, given):
        self.network, self.part, self.given = network, part, given
        if part in FEATURES:
            scans = [flat_scan({key.removeprefix(f"{number}."): value for key, value in given.items()
                                if key.startswith(f"{number}.")}, part) for number in range(8)]
            self.features = torch.cat([scan[0] for scan in scans])
            self.levels, above = [], 0
            for level in zip(*(levels(scan[1:]) for scan in scans), strict=True):
                self.levels.append(self.together(level, above))
                above = len(level[0][0])

    @staticmethod
    def together(scans, above):
        """A level of several clouds as one, whose indices count on; of `above` points each is the level before."""
        def counted_on(index, points):
            return torch.cat([scan[index] + number * points for number, scan in enumerate(scans)])

        before = None if scans[0][2] is None else counted_on(2, above)
        return torch.cat([scan[0] for scan in scans]), counted_on(1, len(scans[0][0])), before

    def say(self):
        edge, part, given = self.network, self.part, self.given
        if part == "image":
            found = F.adaptive_avg_pool2d(yardstick.ResNet18.forward(edge.image, given["image"]), edge.image.grid)
            return edge.norm["camera"](edge.image.projection(found.flatten(2).transpose(1, 2)).flatten(0, 1))
        if part in FEATURES:
            return edge.norm[part](getattr(edge, part)(self.features, self.levels))
        states = edge.backbone.prefix(given["prompts.ids"][:2])
        beam, blockage, _ = edge.conclude(given["values"], given["mask"], given["ages"], states)
        return torch.cat([beam, blockage])[None]

    def __call__(self):
        self.network.zero_grad(set_to_none=True)
        said = self.say()
        (said * numbers(said)).sum().backward()
        return said


def numbers(x):
    return (((torch.arange(x.numel()) * 7919) % 2003) / 1001.5 - 1.0).to(x.dtype).view(x.shape)


def double(x):
    return x.double() if x.is_floating_point() else x


def norm(tensors):
    """Of all of them as one vector."""
    return float(sum(x.double().square().sum() for x in tensors.values()).sqrt())


def training(folder, options):
    config = tomllib.loads((pathlib.Path(__file__).parent.parent / "config/models/edge.toml").read_text())
    text = load_file(folder / "edge-frame.safetensors")
    cases = {}
    for part in ("image", "radar", "lidar", "core"):
        given = load_file(folder / f"training-{part}.safetensors")
        network = Edge(config)
        network.load_state_dict({**{key: value for key, value in network.state_dict().items() if "num_batches" in key},
                                 **load_file(folder / "training.safetensors")})
        network.train()
        network.backbone.prepare(text["prompts.ids"][:2], text["prompts.mask"][:2], text["taps"])
        step = Training(network, part, {**given, "prompts.ids": text["prompts.ids"]})
        far = difference(step().detach(), given["out"])
        # Gradients through batch norms lose digits in 32 bits: PyTorch's are taken in 64.
        exact = Training(copy.deepcopy(network).double(), part, {name: double(x) for name, x in step.given.items()})
        exact()
        gradients = {name: value.grad for name, value in exact.network.named_parameters() if value.grad is not None}
        worst = norm({name: given[f"grad.{name}"] - value for name, value in gradients.items()}) / norm(gradients)
        print(f"training-{part:15} relative difference: outputs {far:.1e}, gradients {worst:.1e}", flush=True)
        if not max(far, worst) <= TRAINED_CLOSE:
            raise SystemExit(f"training-{part}: allowed is {TRAINED_CLOSE:.0e}")
        cases[f"training-{part}"] = {"PyTorch": step}
    return cases


def backbones(folder, options):
    size = {"embeddings": 432, "hidden_size": 512, "intermediate_size": 1024, "layers": 8, "cross_layers": [],
            "heads": 8, "kv_heads": 2, "rms_norm_eps": 1e-5, "rope": {"theta": 10000.0}}
    cases = {}
    for name in ("backbone-text", "backbone-cross"):
        given = load_file(folder / f"{name}-pass.safetensors")
        pair = []
        for _ in range(2):
            if name == "backbone-text":
                module = load(Backbone(size), folder, name)
                module.place(given["embeddings"].shape[1])
            else:
                backbone = load(Backbone({**size, "cross_layers": [1, 3, 5, 7]}), folder, name)
                backbone.prepare(given["prompts.ids"], given["prompts.mask"], given["taps"])
                module = Looking(backbone)
            pair.append(module)
        inputs = [given["embeddings" if name == "backbone-text" else "tokens"]]
        calls = runners(pair[0], with_plain_norms(pair[1]), inputs, options)
        check(name, calls, [given["out"]])
        cases[name] = calls
    return cases


class Operation(nn.Module):
    def __init__(self, kind, plain):
        super().__init__()
        self.kind, self.plain = kind, plain

    def forward(self, x, weight=None, bias=None):
        if self.kind == "layer-norm":
            return F.layer_norm(x, weight.shape, weight, bias)
        if self.kind == "rms-norm" and self.plain:
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight
        if self.kind == "rms-norm":
            return F.rms_norm(x, weight.shape, weight, 1e-5)
        if self.kind == "softmax":
            return x.softmax(-1)
        if self.kind == "gelu":
            return F.gelu(x)
        if self.kind == "gelu-tanh":
            return F.gelu(x, approximate="tanh")
        return F.linear(x, weight, bias)


class Fixed(nn.Module):
    """An operation whose weights are constants."""

    def __init__(self, operation, weights):
        super().__init__()
        self.operation = operation
        self.weights = nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights)

    def forward(self, x):
        return self.operation(x, *self.weights)


def operations(folder, options):
    cases = {}
    for file in sorted(folder.glob("*.safetensors")):
        kind = file.stem.rsplit("-", 1)[0]
        if kind not in ("layer-norm", "rms-norm", "softmax", "gelu", "gelu-tanh", "linear"):
            continue
        given = load_file(file)
        weights = [given[name] for name in ("weight", "bias") if name in given]
        modules = [Fixed(Operation(kind, plain), weights) for plain in (False, True)]
        calls = runners(*modules, [given["x"]], options)
        check(file.stem, calls, [given["out"]])
        cases[file.stem] = calls
    return cases


GROUPS = {"frame": edge, "training": training, "backbones": backbones, "operations": operations}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("bench")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--only", choices=GROUPS, help="one group alone")
    arguments.add_argument("--seconds", type=float, default=1.5, help="of each measurement of the others")
    options = arguments.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run_bench(options.bench, folder, ["--test"])
        cases = {}
        for name, group in GROUPS.items():
            if options.only in (None, name):
                cases.update(group(folder, options))
        times = {name: {} for name in cases}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.2f}", flush=True)
            for name, calls in cases.items():
                measured = {"ours": ours_ms(options.bench, folder, name)}
                measured.update((who, median_ms(call, options.seconds)) for who, call in calls.items())
                for who, value in measured.items():
                    times[name].setdefault(who, []).append(value)
                print(f"  {name}: " + ", ".join(f"{who} {value:.3f}" for who, value in measured.items()), flush=True)

        capability = torch.backends.cpu.get_cpu_capability()
        print(f"{options.threads} threads, {options.rounds} rounds, torch {torch.__version__} ({capability}), "
              f"onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}")
        for name, of_name in times.items():
            print(name)
            own = statistics.median(of_name["ours"])
            for who, values in of_name.items():
                median = statistics.median(values)
                print(f"  {who:34} {median:9.3f} ms   ours / it {own / median:6.2f}   "
                      f"({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
