"""The Point Transformer encoder in PyTorch, on the weights and clouds that `cargo bench --bench points` then uses.

    pip install -r tools/yardstick-requirements.txt
    python tools/yardstick_points.py points.safetensors
    MMSENSE_POINTS_WEIGHTS=points.safetensors cargo bench --bench points

Prints medians in milliseconds: neighbours and farthest points, and the encoder on them. Its outputs go into the file
too, and the bench checks that it gives the same.
"""

import argparse
import math
import statistics
import time

import torch
from safetensors.torch import save_file
from torch import nn

WIDTHS = [32, 64, 128, 256, 512]
SHARE = 8
NEIGHBOURS = 16
INPUTS = 6
CLOUDS = {1024: [1024, 256, 64, 16, 4], 16384: [16384, 4096, 1024, 256, 64]}


class Norm(nn.BatchNorm1d):
    """Over the last dimension."""

    def forward(self, x):
        return super().forward(x.reshape(-1, x.shape[-1])).reshape(x.shape)


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        groups = width // SHARE
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_p = nn.Sequential(nn.Linear(3, 3), Norm(3), nn.ReLU(), nn.Linear(3, width))
        self.linear_w = nn.Sequential(
            Norm(width), nn.ReLU(), nn.Linear(width, groups), Norm(groups), nn.ReLU(), nn.Linear(groups, groups)
        )

    def forward(self, x, positions, within):
        n, k = within.shape
        delta = self.linear_p(positions[within] - positions[:, None])
        logits = self.linear_w(self.linear_k(x)[within] - self.linear_q(x)[:, None] + delta)
        weights = logits.softmax(1)
        values = (self.linear_v(x)[within] + delta).view(n, k, SHARE, -1)
        return (values * weights[:, :, None]).sum(1).reshape(n, -1)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear1 = nn.Linear(width, width, bias=False)
        self.bn1 = Norm(width)
        self.transformer2 = Attention(width)
        self.bn2 = Norm(width)
        self.linear3 = nn.Linear(width, width, bias=False)
        self.bn3 = Norm(width)

    def forward(self, x, positions, within):
        y = torch.relu(self.bn1(self.linear1(x)))
        y = torch.relu(self.bn2(self.transformer2(y, positions, within)))
        return torch.relu(self.bn3(self.linear3(y)) + x)


class Down(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.linear = nn.Linear(inputs, width, bias=False)
        self.bn = Norm(width)

    def forward(self, x, above, here, before):
        if before is not None:
            x = torch.cat([above[before] - here[:, None], x[before]], -1)
            return torch.relu(self.bn(self.linear(x))).amax(1)
        return torch.relu(self.bn(self.linear(x)))


class Encoder(nn.Module):
    def __init__(self, inputs=INPUTS, widths=WIDTHS):
        super().__init__()
        for number, width in enumerate(widths, 1):
            self.add_module(f"td{number}", Down(inputs, width))
            self.add_module(f"b{number}", Block(width))
            inputs = width + 3

    def forward(self, x, hierarchy):
        above = None
        for number, (positions, within, before) in enumerate(hierarchy, 1):
            x = getattr(self, f"td{number}")(x, above, positions, before)
            x = getattr(self, f"b{number}")(x, positions, within)
            above = positions
        return x


def scan(n):
    i = torch.arange(n, dtype=torch.float64)
    a, b, c = ((i * step).frac() for step in (0.7548777, 0.5698403, 0.32471795))
    radius, angle = 2.0 * 20.0**a, math.tau * b
    return torch.stack([radius * angle.cos(), radius * angle.sin(), 3.0 * c], 1).float()


def nearest(queries, points):
    found = []
    for part in queries.split(1024):
        distance = (part[:, None] - points[None]).square().sum(-1)
        found.append(distance.topk(NEIGHBOURS, largest=False).indices)
    return torch.cat(found)


def farthest(points, count):
    near = torch.full((len(points),), torch.inf)
    chosen = torch.zeros(count, dtype=torch.long)
    for place in range(1, count):
        near = torch.minimum(near, (points - points[chosen[place - 1]]).square().sum(-1))
        chosen[place] = near.argmax()
    return chosen


def descend(cloud, sizes):
    levels, positions, before = [], cloud, None
    for size in sizes:
        if levels:
            above = positions
            positions = above[farthest(above, size)]
            before = nearest_filled(positions, above)
        levels.append((positions, nearest_filled(positions, positions), before))
    return levels


def nearest_filled(queries, points):
    if len(points) >= NEIGHBOURS:
        return nearest(queries, points)
    distance = (queries[:, None] - points[None]).square().sum(-1)
    return nn.functional.pad(distance.argsort(stable=True), (0, NEIGHBOURS - len(points)))


def median(repeats, run):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="where weights, clouds and outputs go, as safetensors")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    encoder = Encoder().eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    tensors = {name: tensor for name, tensor in encoder.state_dict().items() if tensor.is_floating_point()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with torch.inference_mode():
        for n, sizes in CLOUDS.items():
            cloud = scan(n)
            features = torch.cat([0.1 * cloud, torch.rand(n, INPUTS - 3)], 1)
            hierarchy = descend(cloud, sizes)
            out = encoder(features, hierarchy)
            tensors |= {f"cloud.{n}": cloud, f"features.{n}": features, f"out.{n}": out.clone()}
            slow = 1 if n > 4096 else 5
            print(f"{n} points: nearest {median(slow, lambda: nearest(cloud, cloud)):.2f} ms")
            print(f"{n} points: farthest quarter {median(slow, lambda: farthest(cloud, n // 4)):.2f} ms")
            print(f"{n} points: encoder {median(arguments.repeats, lambda: encoder(features, hierarchy)):.2f} ms")
    save_file(tensors, arguments.file)


if __name__ == "__main__":
    main()
