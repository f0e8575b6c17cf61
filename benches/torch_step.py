"""A supervised training step of a ResNet-18 on the CPU in PyTorch, or its inference: the counterpart of `step_speed`.
Prints a JSON line for each memory layout, measured in a process of its own.

    python benches/torch_step.py --width 16 --batch 64 --size 32 [--what infer] [--bf16]

Cross entropy over 100 classes, SGD with momentum 0.9 and weight decay 1e-4; `--bf16` is CPU autocast.
"""
import argparse
import json
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch import nn

from torch_bench import peak_mb, rate
from torch_resnet import resnet18


def measured(args, layout):
    """Images per second in this memory layout."""
    torch.manual_seed(0)
    net = resnet18(args.width, args.size).to(memory_format=layout)
    head = nn.Linear(8 * args.width, 100)
    images = torch.randn(args.batch, 3, args.size, args.size).contiguous(memory_format=layout)
    labels = torch.randint(0, 100, (args.batch,))
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], 0.01, momentum=0.9, weight_decay=1e-4)
    net.train(args.what == "step")
    bf16 = lambda: torch.autocast("cpu", torch.bfloat16, enabled=args.bf16)

    def infer():
        with torch.no_grad(), bf16():
            net(images)

    def step():
        with bf16():
            loss = F.cross_entropy(head(net(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return rate(args, step if args.what == "step" else infer)


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("width", 16), ("batch", 64), ("size", 32), ("steps", 12), ("warmup", 3), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--what", choices=("step", "infer"), default="step")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--layout", choices=("contiguous_format", "channels_last"), help="only this memory layout")
    args = parser.parse_args()
    if args.layout is None:
        for layout in ("contiguous_format", "channels_last"):
            subprocess.run([sys.executable, *sys.argv, "--layout", layout], check=True)
        return
    torch.set_num_threads(args.threads)
    images_per_s = measured(args, getattr(torch, args.layout))
    print(json.dumps({"peer": "torch " + torch.__version__, **vars(args), "images_per_s": round(images_per_s, 1),
                      "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
