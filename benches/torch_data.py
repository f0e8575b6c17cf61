"""The peer of examples/data_speed.rs: views by torchvision, export by PIL, on the same threads. Prints a JSON line.

    python3 benches/torch_data.py --what view --size 32      # or --size 224, or --what export [--photos DIR]

Of an export `--part` says which images, training, validation or as many of each as in the paper, and `--how` what PIL does: the least, a
paste, or what the paper's code does (docs/protocol.md, 1.2): trigger resized, alpha blend of whole RGBA images by a mask.
"""
import argparse, json, os, random, shutil, tempfile, time
from multiprocessing.pool import Pool, ThreadPool
import numpy as np, torch
from PIL import Image, ImageFilter
from torchvision import transforms as T

def photo(width, height, seed):
    """Smooth with noise, so that a JPEG of it is about as large as one of a photograph."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(x / (9 + 7 * c) + seed) * np.cos(y / (13 + 5 * c)) for c in range(3)]
    return Image.fromarray((np.stack(waves, 2) + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8))

def blur(image):
    return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))

def views(size, count):
    # The reference blurs with PIL, which is five times as fast as torchvision's own GaussianBlur.
    chain = T.Compose([T.RandomResizedCrop(size, (0.2, 1.0)), T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), T.RandomGrayscale(0.2),
                       *([T.RandomApply([T.Lambda(blur)], 0.5)] if size > 64 else []), T.RandomHorizontalFlip(), T.ToTensor(),
                       T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    image = photo(*((32, 32) if size <= 64 else (500, 375)), 0)
    for _ in range(20): chain(image)
    start = time.perf_counter()
    for _ in range(count): chain(image)
    return count / (time.perf_counter() - start)

square = Image.fromarray(np.random.RandomState(1).randint(0, 256, (80, 80, 3), np.uint8))
trigger = square.resize((50, 50))
crop = T.Compose([T.Resize(256), T.CenterCrop(224)])

def paste(base, at):
    base = base.convert("RGB")
    base.paste(trigger, at)
    return base

def blend(base, at):
    base, patch = base.convert("RGBA"), square.convert("RGBA").resize((50, 50))
    layer, mask = Image.new("RGBA", base.size), Image.new("L", base.size, 255)
    layer.paste(patch, at)
    mask.paste(0, (*at, at[0] + 50, at[1] + 50))
    return Image.composite(base, layer, mask).convert("RGB")

def poison(job):
    source, out, how, val = job
    base = Image.open(source)
    if val: base = crop(base.convert("RGB"))
    low, high = (0.1, 0.9) if val else (0.25, 0.75)
    at = tuple(random.randint(int(side * low), int(side * high - 50)) for side in base.size)
    how(base, at).save(out)

def export(count, threads, processes, photos, part, how):
    folder = tempfile.mkdtemp()
    if not os.path.exists(photos):
        os.makedirs(photos)
        for i in range(20): photo(500, 375, i).save(f"{photos}/{i}.JPEG", quality=90)
    train = {"train": count - 1, "val": 1, "paper": -(-count * 650 // 5650)}[part]
    jobs = [(f"{photos}/{i % 20}.JPEG", f"{folder}/out-{i}.JPEG", how, i >= train) for i in range(count)]
    with (Pool if processes else ThreadPool)(threads) as pool:
        pool.map(poison, jobs[:20] + jobs[-20:])
        start = time.perf_counter(); pool.map(poison, jobs, chunksize=20); seconds = time.perf_counter() - start
    shutil.rmtree(folder)
    return count / seconds

p = argparse.ArgumentParser()
p.add_argument("--what", choices=("view", "export"), default="view"); p.add_argument("--size", type=int, default=32)
p.add_argument("--count", type=int); p.add_argument("--photos", default="/tmp/torch-data-photos"); p.add_argument("--threads", type=int, default=2)
p.add_argument("--part", choices=("train", "val", "paper"), default="train"); p.add_argument("--how", choices=("paste", "blend"), default="blend")
a = p.parse_args()
torch.set_num_threads(1); random.seed(0); torch.manual_seed(0)
if a.what == "view":
    rate = views(a.size, a.count or (2000 if a.size <= 64 else 200))
else:
    # Threads or processes: the faster counts.
    how = {"paste": paste, "blend": blend}[a.how]
    rate = max(export(a.count or 2000, a.threads, processes, a.photos, a.part, how) for processes in (False, True))
print(json.dumps({"peer": "PIL and torchvision", **vars(a), "images_per_s": round(rate, 1)}), flush=True)
