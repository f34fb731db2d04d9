"""Times PyTorch's attention, for bench/peers/pytorch, which starts it with a Python that has torch.

Reads one shape a line, as JSON (those of a report of `longspan bench kernels`, and "threads"), and answers each with
the seconds of one execution, after one to warm up: {"wall":, "cpu":}, the latter of all threads. The first line that it
writes names the versions.
"""

import json
import sys
import time

import torch
from torch.nn.functional import scaled_dot_product_attention


def arrays(shape):
    """q, k, v as [1, heads, tokens, head size]; query heads share key heads as ours do."""
    generator = torch.Generator().manual_seed(1)
    for heads, tokens, dim in ((shape["heads"], shape["tokens"], shape["dim"]),
                               (shape["kv_heads"], shape["keys"], shape["dim"]),
                               (shape["kv_heads"], shape["keys"], shape["value_dim"])):
        yield torch.randn(1, heads, tokens, dim, generator=generator).to(getattr(torch, shape["type"]))


def main():
    versions = {"pytorch": torch.__version__, "pytorch_cpu": torch.backends.cpu.get_cpu_capability()}
    print(json.dumps(versions), flush=True)
    made, q, k, v = None, None, None, None
    for line in sys.stdin:
        shape = json.loads(line)
        torch.set_num_threads(shape.pop("threads"))
        if shape != made:
            made, (q, k, v) = shape, arrays(shape)
        for _ in range(2):
            cpu, started = time.process_time(), time.perf_counter()
            with torch.inference_mode():
                scaled_dot_product_attention(q, k, v, is_causal=shape["mask"] == "causal",
                                             enable_gqa=shape["heads"] != shape["kv_heads"])
            wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
