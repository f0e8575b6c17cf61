"""MoCo v2 on the CPU as a PyTorch user would run it, in channels_last: the counterpart of `step_speed --what moco`.
Prints a JSON line.

    python benches/torch_moco.py --width 16 --batch 256 --size 32 --workers 2

Random RGB images in memory as PIL images, torchvision's transforms of MoCo v2 in DataLoader workers (with blur above
64 px), query and key encoder with two-layer heads, shuffled keys, a queue, SGD. The time per step includes the wait for
its batch.
"""
import argparse
import copy
import json
import time

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import transforms as T

from torch_bench import Views, peak_mb
from torch_resnet import resnet18

KEY = 128


def view(size):
    """The transforms of MoCo v2."""
    blur = [T.RandomApply([T.GaussianBlur(size // 20 * 2 + 1, (0.1, 2.0))], 0.5)] if size > 64 else []
    return T.Compose([
        T.RandomResizedCrop(size, (0.2, 1.0)),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
        T.RandomGrayscale(0.2),
        *blur,
        T.RandomHorizontalFlip(),
        T.ToTensor(),
        T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])


class Moco:
    def __init__(self, args):
        dim = 8 * args.width
        net = nn.Sequential(resnet18(args.width, args.size), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, KEY))
        self.query = net.to(memory_format=torch.channels_last)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.queue, self.oldest = F.normalize(torch.randn(args.queue, KEY)), 0
        self.optimizer = torch.optim.SGD(self.query.parameters(), 0.06, momentum=0.9, weight_decay=1e-4)

    @torch.no_grad()
    def keys(self, views):
        for slow, fast in zip(self.key.parameters(), self.query.parameters()):
            slow.lerp_(fast, 0.001)
        order = torch.randperm(len(views))
        shuffled = F.normalize(self.key(views[order]))
        return shuffled[order.argsort()]

    def step(self, one, other):
        queries, keys = F.normalize(self.query(one)), self.keys(other)
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ self.queue.T.clone()], 1) / 0.2
        loss = F.cross_entropy(logits, torch.zeros(len(one), dtype=torch.long))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.queue[self.oldest:self.oldest + len(keys)] = keys
        self.oldest = (self.oldest + len(keys)) % len(self.queue)


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("width", 16), ("batch", 256), ("size", 32), ("images", 8192), ("steps", 20),
                          ("warmup", 3), ("threads", 2), ("workers", 2), ("queue", 4096)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    moco = Moco(args)
    loader = torch.utils.data.DataLoader(
        Views(args.images, args.size, view(args.size), 2), args.batch, shuffle=True, drop_last=True, num_workers=args.workers,
        persistent_workers=args.workers > 0)
    assert args.queue % args.batch == 0, "--queue must be a multiple of --batch"
    done, start = 0, time.perf_counter()
    while done < args.warmup + args.steps:
        for views in loader:
            moco.step(*(view.contiguous(memory_format=torch.channels_last) for view in views))
            done += 1
            if done == args.warmup:
                start = time.perf_counter()
            if done == args.warmup + args.steps:
                break
    seconds = time.perf_counter() - start
    print(json.dumps({"peer": "torch " + torch.__version__, **vars(args),
                      "images_per_s": round(args.batch * args.steps / seconds, 1), "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
