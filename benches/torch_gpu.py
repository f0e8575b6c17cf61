"""The GPU peer of `step_speed`: a supervised step of a ResNet-18, and a step of MoCo v2 on views that lie on the GPU.
Prints one JSON line per precision (f32, tf32, bf16), in channels_last.

    python3 benches/torch_gpu.py --size 32 --batch 256
"""
import argparse
import copy
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from torch_resnet import resnet18


def supervised(args, device):
    net = nn.Sequential(resnet18(args.width, args.size), nn.Linear(8 * args.width, 100))
    net = net.to(device, memory_format=torch.channels_last)
    images = torch.randn(args.batch, 3, args.size, args.size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 100, (args.batch,), device=device)
    return net, lambda: F.cross_entropy(net(images), labels), lambda: None


def moco(args, device):
    dim = 8 * args.width
    query = nn.Sequential(resnet18(args.width, args.size), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 128))
    query = query.to(device, memory_format=torch.channels_last)
    key = copy.deepcopy(query).requires_grad_(False)
    queue = F.normalize(torch.randn(4096, 128, device=device))
    view = lambda: torch.randn(args.batch, 3, args.size, args.size, device=device).contiguous(memory_format=torch.channels_last)
    one, other = view(), view()
    target = torch.zeros(args.batch, dtype=torch.long, device=device)
    keys = None

    def loss():
        nonlocal keys
        with torch.no_grad():
            for slow, fast in zip(key.parameters(), query.parameters()):
                slow.lerp_(fast, 0.001)
            keys = F.normalize(key(other), dim=1).float()
        queries = F.normalize(query(one), dim=1).float()
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ queue.T], 1) / 0.2
        return F.cross_entropy(logits, target)

    def after():
        nonlocal queue
        queue = torch.cat([queue[args.batch:], keys])

    return query, loss, after


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("width", 64), ("batch", 256), ("size", 32), ("steps", 12), ("warmup", 5)):
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--what", choices=("step", "moco-v2"), default="step")
    args = parser.parse_args()
    device = torch.device("cuda")
    torch.backends.cudnn.benchmark = True
    for precision in ("f32", "tf32", "bf16"):
        torch.manual_seed(0)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "f32"
        net, loss_of, after = (supervised if args.what == "step" else moco)(args, device)
        optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        times, losses = [], []
        for step in range(args.warmup + args.steps):
            start = time.perf_counter()
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
                loss = loss_of()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after()
            losses.append(loss.item())
            torch.cuda.synchronize()
            if step >= args.warmup:
                times.append(time.perf_counter() - start)
        print(json.dumps({"peer": "torch " + torch.__version__, "what": args.what, "precision": precision,
                          "width": args.width, "batch": args.batch, "size": args.size,
                          "loss": [round(losses[0], 4), round(losses[-1], 4)],
                          "memory_mb": torch.cuda.max_memory_allocated() >> 20,
                          "images_per_s": round(args.batch / statistics.median(times), 1)}), flush=True)


if __name__ == "__main__":
    main()
