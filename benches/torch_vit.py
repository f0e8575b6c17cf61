"""A step of a vision transformer on the CPU, or MAE end to end, in PyTorch: the counterpart of
`step_speed --encoder vit` and `step_speed --what mae`. Prints a JSON line.

    python benches/torch_vit.py --what step --dim 192 --depth 12 --heads 3 --batch 64 --size 32
    python benches/torch_vit.py --what mae --dim 96 --depth 4 --heads 4 --batch 256 --size 32 [--bf16]

`step`: encoder, a linear classifier of 100 classes, cross entropy, SGD with momentum 0.9 and weight decay 1e-4.
`mae`: random RGB images in memory, torchvision's random resized crop and flip in DataLoader workers, masking of 75 %,
encoder, decoder, loss on the standardised pixels of the hidden patches, AdamW. Attention is PyTorch's fused
`scaled_dot_product_attention`; `--bf16` is CPU autocast.
"""
import argparse
import json
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision import transforms as T

from torch_bench import Views, peak_mb, rate


class Block(nn.Module):
    """A pre-norm block: attention, then a perceptron four times as wide with the exact GELU."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim)
        x = x + self.proj(mixed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def patches(images, side):
    """`[batch, 3, height, width]` as `[batch, patches, side * side * 3]`."""
    batch, channels, height, width = images.shape
    grid = images.view(batch, channels, height // side, side, width // side, side)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, side * side * channels)


class Vit(nn.Module):
    def __init__(self, dim, depth, heads, side, count):
        super().__init__()
        self.side = side
        self.embed = nn.Linear(3 * side * side, dim)
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.register_buffer("places", torch.randn(1, count, dim) * 0.02)
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, 1e-6)

    def forward(self, images, seen=None):
        x = self.embed(patches(images, self.side)) + self.places
        if seen is not None:
            x = torch.gather(x, 1, seen[..., None].expand(-1, -1, x.shape[2]))
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        return self.norm(self.blocks(x))


class Mae(nn.Module):
    def __init__(self, encoder, dim, decoder_dim, depth, heads, side, count):
        super().__init__()
        self.encoder, self.side, self.count = encoder, side, count
        self.embed = nn.Linear(dim, decoder_dim)
        self.mask = nn.Parameter(torch.randn(1, 1, decoder_dim) * 0.02)
        self.register_buffer("places", torch.randn(1, count, decoder_dim) * 0.02)
        self.blocks = nn.Sequential(*[Block(decoder_dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(decoder_dim, 1e-6)
        self.paint = nn.Linear(decoder_dim, 3 * side * side)

    def forward(self, images):
        batch, kept = len(images), self.count // 4
        order = torch.rand(batch, self.count).argsort(1)
        back = order.argsort(1)
        tokens = self.embed(self.encoder(images, order[:, :kept]))
        dim = tokens.shape[2]
        hidden = self.mask.to(tokens.dtype).expand(batch, self.count - kept, -1)
        all_ = torch.cat([tokens[:, 1:], hidden], 1)
        all_ = torch.gather(all_, 1, back[..., None].expand(-1, -1, dim)) + self.places
        x = self.norm(self.blocks(torch.cat([tokens[:, :1], all_], 1)))
        painted = self.paint(x[:, 1:]).float()
        wanted = patches(images, self.side)
        mean, var = wanted.mean(-1, keepdim=True), wanted.var(-1, keepdim=True)
        error = ((painted - (wanted - mean) / (var + 1e-6).sqrt()) ** 2).mean(-1)
        unseen = (back >= kept).float()
        return (error * unseen).sum() / unseen.sum()


def view(size):
    """The transforms of MAE."""
    return T.Compose([
        T.RandomResizedCrop(size, (0.2, 1.0), interpolation=T.InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(),
        T.ToTensor(),
        T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])


def step(a, vit):
    head = nn.Linear(a.dim, 100)
    optimizer = torch.optim.SGD([*vit.parameters(), *head.parameters()], 0.01, momentum=0.9, weight_decay=1e-4)
    x, y = torch.randn(a.batch, 3, a.size, a.size), torch.randint(0, 100, (a.batch,))

    def once():
        with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            loss = F.cross_entropy(head(vit(x)[:, 0]).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return rate(a, once)


def mae(a, vit, count):
    net = Mae(vit, a.dim, a.decoder_dim, a.decoder_depth, a.decoder_heads, a.patch, count)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    loader = torch.utils.data.DataLoader(
        Views(a.batch * a.steps, a.size, view(a.size), 1), a.batch, shuffle=True, drop_last=True, num_workers=a.workers,
        persistent_workers=a.workers > 0)
    for _ in range(2):
        start = time.perf_counter()
        for (images,) in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
                loss = net(images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        images_per_s = a.batch * a.steps / (time.perf_counter() - start)
    return images_per_s


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--what", choices=("step", "mae"), default="step")
    for name, default in (
        ("dim", 96), ("depth", 4), ("heads", 4), ("patch", 4), ("decoder-dim", 64), ("decoder-depth", 2),
        ("decoder-heads", 4), ("batch", 64), ("size", 32), ("steps", 12), ("warmup", 3), ("threads", 2), ("workers", 2),
    ):
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    count = (a.size // a.patch) ** 2
    vit = Vit(a.dim, a.depth, a.heads, a.patch, count)
    images_per_s = step(a, vit) if a.what == "step" else mae(a, vit, count)
    print(json.dumps({"peer": "torch " + torch.__version__, **vars(a), "images_per_s": round(images_per_s, 1),
                      "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
