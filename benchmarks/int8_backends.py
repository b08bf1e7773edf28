"""Which int8 product to build on: speed, accuracy and company of each library, on one layer's linear layers.

The four matrices of a Qwen3-0.6B layer, random, and activations with the outliers of real ones. What is not
installed is left out: python -m pip install torchao onnx onnxruntime openvino
"""

import argparse
import importlib.metadata
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, linear
from workload import report

from hexgrid.model import layers
from hexgrid.model.int8 import Int8Matrix, quantise_matrix

SHAPES = ((1024, 4096), (2048, 1024), (1024, 6144), (3072, 1024))  # in, out
ROWS = (1, 64, 1024)
OUTLIERS, OUTLIER = 8, 20.0  # channels of an activation that are so many times as large

Product = Callable[[Tensor], Tensor]
Backend = Callable[[Tensor], Product]  # of a weight [out, in]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    weights = [torch.randn(out, width) * 0.02 for width, out in SHAPES]
    rows = [
        row
        for name, (make, packages) in BACKENDS.items()
        if (row := measured(name, make, packages, weights, arguments.rounds))
    ]
    report("One layer of the 0.6B shape", rows, {"benchmark": "int8_backends"})


def measured(
    name: str, make: Backend, packages: tuple[str, ...], weights: list[Tensor], rounds: int
) -> dict[str, Any] | None:
    """The row of one backend, if it is here."""
    try:
        products = [make(weight) for weight in weights]
    except ImportError as error:
        print(f"{name}: not installed ({error})")
        return None
    row: dict[str, Any] = {"backend": name}
    for num_rows in ROWS:
        inputs = [activations(num_rows, weight.shape[1]) for weight in weights]
        operations = sum(2 * num_rows * weight.numel() for weight in weights)
        row[f"GOP/s, {num_rows} rows"] = operations / seconds(products, inputs, rounds) / 1e9
    inputs = [activations(64, weight.shape[1]) for weight in weights]
    cosines = torch.cat([
        cosine_similarity(product(x), linear(x, weight))
        for product, x, weight in zip(products, inputs, weights, strict=True)
    ])  # fmt: skip
    row["cosine, mean"], row["cosine, least"] = float(cosines.mean()), float(cosines.min())
    row["a row depends on others"] = any(
        bool((product(x[:1]) - product(x)[:1]).abs().max() > 1e-4 * product(x)[:1].abs().max())
        for product, x in zip(products, inputs, strict=True)
    )
    row["MB installed"] = sum(map(megabytes, packages))
    return row


def activations(num_rows: int, width: int) -> Tensor:
    x = torch.randn(num_rows, width)
    x[:, torch.randperm(width)[:OUTLIERS]] *= OUTLIER
    return x


def seconds(products: list[Product], inputs: list[Tensor], rounds: int) -> float:
    """Median time of all products, one after the other as in a layer."""
    times = []
    with torch.inference_mode():
        for _ in range(rounds + 2):
            start = perf_counter()
            for product, x in zip(products, inputs, strict=True):
                product(x)
            times.append(perf_counter() - start)
    return statistics.median(times[2:])


def megabytes(package: str) -> int:
    """What an installed distribution takes on disk."""
    files = importlib.metadata.files(package) or []
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file()) // 2**20


def float32(weight: Tensor) -> Product:
    return lambda x: linear(x, weight)


def hexgrid_onednn(weight: Tensor) -> Product:
    matrix = Int8Matrix.of(*quantise_matrix(weight))
    return lambda x: layers.linear(x, matrix).whole()


def torch_fbgemm(weight: Tensor) -> Product:
    """torch's dynamic quantised linear, each row scaled to its own largest value first."""
    torch.backends.quantized.engine = "fbgemm"
    values, scales = quantise_matrix(weight)
    quantised = torch._make_per_channel_quantized_tensor(  # noqa: SLF001
        values, scales.double(), torch.zeros(len(scales), dtype=torch.int64), 0
    )
    packed = torch.ops.quantized.linear_prepack(quantised, None)

    def product(x: Tensor) -> Tensor:
        largest = x.abs().amax(dim=1, keepdim=True)
        found: Tensor = torch.ops.quantized.linear_dynamic(x / largest, packed, reduce_range=False)
        return found.mul_(largest)

    return product


def torchao(weight: Tensor) -> Product:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    out, width = weight.shape
    module = torch.nn.Linear(width, out, bias=False)
    module.weight.data.copy_(weight)
    quantize_(module, Int8DynamicActivationInt8WeightConfig())
    return module


def onnxruntime(weight: Tensor) -> Product:
    """Dynamic quantisation as its users get it: weights per channel, activations per tensor."""
    import tempfile

    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import quantize_dynamic

    out, width = weight.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", out])],
        [numpy_helper.from_array(weight.T.contiguous().numpy(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with tempfile.TemporaryDirectory() as directory:
        plain, quantised = (str(Path(directory) / name) for name in ("plain", "quantised"))
        onnx.save(model, plain)
        quantize_dynamic(plain, quantised, per_channel=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(quantised, options)
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def openvino(weight: Tensor) -> Product:
    """int8 weights per channel, activations quantised in groups as it runs."""
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    values, scales = quantise_matrix(weight)
    x = ops.parameter([-1, weight.shape[1]], np.float32)
    constant = ops.convert(ops.constant(values.numpy(), np.int8), np.float32)
    scaled = ops.multiply(constant, ops.constant(scales.unsqueeze(1).numpy()))
    product = ops.matmul(x, scaled, transpose_a=False, transpose_b=True)
    compiled = openvino.compile_model(
        openvino.Model([product], [x]),
        "CPU",
        {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
    )
    return lambda x: torch.from_numpy(compiled(x.numpy())[0])


BACKENDS: dict[str, tuple[Backend, tuple[str, ...]]] = {
    "float32, torch": (float32, ()),
    "oneDNN by torch's operators (hexgrid)": (hexgrid_onednn, ()),
    "fbgemm, torch's dynamic linear": (torch_fbgemm, ()),
    "torchao, eager": (torchao, ("torchao",)),
    "ONNX Runtime": (onnxruntime, ("onnxruntime",)),
    "OpenVINO": (openvino, ("openvino",)),
}


if __name__ == "__main__":
    main()
