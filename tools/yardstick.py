"""Times ResNet-18 of this project, PyTorch and ONNX Runtime on the same weights, one after the other in one run.

    python3 -m venv ENV && ENV/bin/pip install -r tools/yardstick-requirements.txt
    cargo bench --bench kernels --no-run            # prints the path of the bench
    ENV/bin/python tools/yardstick.py BENCH [--rounds 3] [--threads 2]

BENCH is the compiled bench (target/release/deps/kernels-…). Each round times all of them in turn; what is printed is the
median of the rounds' medians, and the ratio to ours. Stock candle is timed by the bench, too.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import nn

CHANNELS, LAYERS = (64, 128, 256, 512), (2, 2, 2, 2)


class Block(nn.Module):
    """A basic block under torchvision's names."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """Without the classifier: to the last feature map."""

    def __init__(self, stem=64, channels=CHANNELS):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        inputs = stem
        for stage, (outputs, layers) in enumerate(zip(channels, LAYERS), 1):
            blocks = []
            for layer in range(layers):
                blocks.append(Block(inputs, outputs, 2 if layer == 0 and stage > 1 else 1))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


def onnx_model(network, side):
    """The same network as an ONNX graph; ONNX Runtime folds the batch norms itself."""
    state = {name: value.numpy() for name, value in network.state_dict().items() if "num_batches" not in name}
    nodes = []

    def add(kind, inputs, **attributes):
        name = f"t{len(nodes)}"
        nodes.append(onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(x, at, norm, stride, rectify):
        size = state[f"{at}.weight"].shape[2]
        x = add("Conv", [x, f"{at}.weight"], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4)
        parts = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        x = add("BatchNormalization", [x, *parts], epsilon=1e-5)
        return add("Relu", [x]) if rectify else x

    x = conv("images", "conv1", "bn1", 2, True)
    x = add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, layers in enumerate(LAYERS, 1):
        for layer in range(layers):
            at = f"layer{stage}.{layer}"
            stride = 2 if layer == 0 and stage > 1 else 1
            y = conv(x, f"{at}.conv1", f"{at}.bn1", stride, True)
            y = conv(y, f"{at}.conv2", f"{at}.bn2", 1, False)
            if f"{at}.downsample.0.weight" in state:
                x = conv(x, f"{at}.downsample.0", f"{at}.downsample.1", stride, False)
            x = add("Relu", [add("Add", [y, x])])
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "resnet18",
        [onnx.helper.make_tensor_value_info("images", floats, [1, 3, side, side])],
        [onnx.helper.make_tensor_value_info(x, floats, [1, 512, side // 32, side // 32])],
        [onnx.numpy_helper.from_array(value, name) for name, value in state.items()])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


def median_ms(call, seconds=2.0):
    """Median of calls for so many seconds, after a warm-up."""
    for _ in range(3):
        call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def bench_ms(bench, folder, name):
    """Medians of the bench `name` by criterion: ours, and stock candle."""
    environment = dict(os.environ, YARDSTICK=str(folder), CRITERION_HOME=str(folder / "criterion"))
    subprocess.run([bench, "--bench", f"^{name}/"], env=environment, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    found = {}
    for who in ("ours", "candle"):
        estimates = json.loads((folder / "criterion" / name / who / "new" / "estimates.json").read_text())
        found[who] = estimates["median"]["point_estimate"] / 1e6
    return found


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("bench")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        network = ResNet18().eval()
        save_file({name: value for name, value in network.state_dict().items() if "num_batches" not in name},
                  folder / "resnet18.safetensors")
        images = torch.rand(1, 3, 224, 224) * 2 - 1
        save_file({"images": images}, folder / "images.safetensors")

        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(onnx_model(network, 224).SerializeToString(), session_options,
                                               providers=["CPUExecutionProvider"])
        with torch.inference_mode():
            jit = torch.jit.freeze(torch.jit.trace(network, images))
            wanted = network(images).mean((2, 3))
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0]).mean((2, 3))

        trained = ResNet18().train()
        batch = torch.rand(8, 3, 112, 112)

        def step():
            trained.zero_grad()
            trained(batch).mean((2, 3)).square().mean().backward()

        def inference(model):
            with torch.inference_mode():
                model(images)

        times = {"resnet18-224": {}, "train-resnet18-112x8": {}}
        for _ in range(options.rounds):
            for name, of_name in times.items():
                measured = bench_ms(options.bench, folder, name)
                if name == "resnet18-224":
                    measured["PyTorch"] = median_ms(lambda: inference(network))
                    measured["PyTorch, jit"] = median_ms(lambda: inference(jit))
                    measured["ONNX Runtime"] = median_ms(lambda: session.run(None, {"images": images.numpy()}))
                else:
                    measured["PyTorch"] = median_ms(step)
                for who, value in measured.items():
                    of_name.setdefault(who, []).append(value)

        ours = load_file(folder / "features.safetensors")["features"]
        largest = wanted.abs().max()
        print(f"furthest apart, of the largest feature: ours {(ours - wanted).abs().max() / largest:.1e}, "
              f"ONNX Runtime {(found - wanted).abs().max() / largest:.1e}")
        capability = torch.backends.cpu.get_cpu_capability()
        print(f"{options.threads} threads, {options.rounds} rounds, torch {torch.__version__} ({capability}), "
              f"onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}")
        for name, of_name in times.items():
            print(name)
            own = statistics.median(of_name["ours"])
            for who, values in of_name.items():
                median = statistics.median(values)
                print(f"  {who:14} {median:9.2f} ms   ours / it {own / median:6.2f}   "
                      f"({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
