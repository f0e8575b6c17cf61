"""What the PyTorch counterparts share: images in memory with their views, and the rate of a step."""
import resource
import statistics
import time

import numpy as np
import torch
from PIL import Image


class Views(torch.utils.data.Dataset):
    """`count` random RGB images of `size` pixels a side, each as a tuple of `views` results of `view`."""

    def __init__(self, count, size, view, views):
        rng = np.random.RandomState(0)
        draw = lambda: rng.randint(0, 256, (size, size, 3), np.uint8)
        self.images = [Image.fromarray(draw()) for _ in range(count)]
        self.view, self.views = view, views

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return tuple(self.view(self.images[i]) for _ in range(self.views))


def peak_mb():
    """Peak memory of this process so far. The workers of a `DataLoader` are processes of their own."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000


def rate(args, step):
    """Images per second of `step`: the batch size by the median time of `args.steps` calls after `args.warmup` more."""
    times = []
    for i in range(args.warmup + args.steps):
        start = time.perf_counter()
        step()
        if i >= args.warmup:
            times.append(time.perf_counter() - start)
    return args.batch / statistics.median(times)
