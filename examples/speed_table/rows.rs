//! The rows of `docs/benchmarks.md`: our examples and PyTorch's scripts with the same arguments, and every method.

/// A comparison: its name, our example with its arguments, and the peer's script with its own. If a
/// peer can run in several ways, the fastest counts.
pub struct Row {
    pub name: &'static str,
    pub ours: (&'static str, &'static str),
    pub theirs: (&'static str, &'static [&'static str]),
    /// The ratio to reach, if one was set.
    pub target: Option<f64>,
    /// Measured only on a CPU with AVX512-BF16: elsewhere both sides emulate bf16.
    pub bf16: bool,
}

impl Row {
    const fn target(self, ratio: f64) -> Self {
        Self { target: Some(ratio), ..self }
    }

    const fn bf16(self) -> Self {
        Self { bf16: true, ..self }
    }
}

const fn of(
    name: &'static str,
    ours: (&'static str, &'static str),
    theirs: (&'static str, &'static [&'static str]),
) -> Row {
    Row { name, ours, theirs, target: None, bf16: false }
}

const fn step(name: &'static str, ours: &'static str, theirs: &'static [&'static str]) -> Row {
    of(name, ("step_speed", ours), ("torch_step.py", theirs))
}

/// A transformer's step, or MAE.
const fn vit(name: &'static str, ours: &'static str, theirs: &'static [&'static str]) -> Row {
    of(name, ("step_speed", ours), ("torch_vit.py", theirs))
}

/// A view or an export. The peer makes the photographs that both read.
const fn data(name: &'static str, ours: &'static str, theirs: &'static [&'static str]) -> Row {
    of(name, ("data_speed", ours), ("torch_data.py", theirs))
}

pub const ROWS: [Row; 20] = [
    step(
        "training step, width 16, batch 64, 32 px",
        "--what step --width 16 --batch 64 --size 32",
        &["--what step --width 16 --batch 64 --size 32"],
    )
    .target(1.6),
    step(
        "training step, width 64, batch 32, 32 px",
        "--what step --width 64 --batch 32 --size 32",
        &["--what step --width 64 --batch 32 --size 32"],
    )
    .target(1.4),
    step(
        "training step, width 64, batch 8, 224 px",
        "--what step --width 64 --batch 8 --size 224",
        &["--what step --width 64 --batch 8 --size 224"],
    )
    .target(1.3),
    step(
        "inference, width 16, batch 64, 32 px",
        "--what infer --width 16 --batch 64 --size 32",
        &["--what infer --width 16 --batch 64 --size 32"],
    ),
    step(
        "inference, width 64, batch 32, 32 px",
        "--what infer --width 64 --batch 32 --size 32",
        &["--what infer --width 64 --batch 32 --size 32"],
    ),
    step(
        "inference, width 64, batch 8, 224 px",
        "--what infer --width 64 --batch 8 --size 224",
        &["--what infer --width 64 --batch 8 --size 224"],
    ),
    of(
        "MoCo v2 end to end, width 16, batch 256, 32 px",
        ("step_speed", "--what moco --width 16 --batch 256 --size 32 --steps 20"),
        (
            "torch_moco.py",
            &[
                "--width 16 --batch 256 --size 32 --workers 1",
                "--width 16 --batch 256 --size 32 --workers 2",
            ],
        ),
    )
    .target(2.5),
    step(
        "training step in bf16, width 16, batch 64, 32 px (PyTorch's autocast)",
        "--what step --width 16 --batch 64 --size 32 --precision bf16",
        &["--what step --width 16 --batch 64 --size 32 --bf16"],
    )
    .target(1.3)
    .bf16(),
    step(
        "training step in bf16, width 64, batch 32, 32 px (PyTorch's autocast)",
        "--what step --width 64 --batch 32 --size 32 --precision bf16",
        &["--what step --width 64 --batch 32 --size 32 --bf16"],
    )
    .target(1.1)
    .bf16(),
    step(
        "training step in bf16, width 64, batch 8, 224 px (PyTorch's autocast)",
        "--what step --width 64 --batch 8 --size 224 --precision bf16",
        &["--what step --width 64 --batch 8 --size 224 --bf16"],
    )
    .target(1.0)
    .bf16(),
    vit(
        "training step of a ViT, 4 blocks, 96-d, patch 4, batch 64, 32 px",
        "--what step --encoder vit --batch 64 --size 32",
        &["--what step --batch 64 --size 32"],
    )
    .target(1.2),
    vit(
        "training step of a ViT in bf16, 4 blocks, 96-d, patch 4, batch 64, 32 px (PyTorch's autocast)",
        "--what step --encoder vit --batch 64 --size 32 --precision bf16",
        &["--what step --batch 64 --size 32 --bf16"],
    )
    .bf16(),
    vit(
        "training step of a ViT-Ti, patch 4, batch 32, 32 px",
        "--what step --encoder vit --dim 192 --depth 12 --heads 3 --batch 32 --size 32",
        &["--what step --dim 192 --depth 12 --heads 3 --batch 32 --size 32"],
    )
    .target(1.2),
    vit(
        "MAE end to end, ViT of 4 blocks, 96-d, patch 4, batch 256, 32 px",
        "--what mae --batch 256 --size 32 --steps 20",
        &[
            "--what mae --batch 256 --size 32 --steps 20 --workers 1",
            "--what mae --batch 256 --size 32 --steps 20 --workers 2",
        ],
    )
    .target(1.2),
    data(
        "MoCo v2 view of a 32 x 32 image, 32 px, one thread (torchvision)",
        "--what view --size 32",
        &["--what view --size 32"],
    ),
    data(
        "MoCo v2 view of a 500 x 375 image, 224 px, one thread (torchvision, PIL's blur)",
        "--what view --size 224",
        &["--what view --size 224"],
    ),
    data(
        "export of 2,000 poisoned 500 x 375 JPEGs, training and validation as in the paper (PIL by the paper's steps, no ledger)",
        "--what export --photos target/speed-photos --part paper",
        &["--what export --photos target/speed-photos --part paper"],
    ),
    data(
        "export of 2,000, training and validation as in the paper (PIL, a bare paste)",
        "--what export --photos target/speed-photos --part paper",
        &["--what export --photos target/speed-photos --part paper --how paste"],
    ),
    data(
        "export of 2,000, training images alone (PIL by the paper's steps)",
        "--what export --photos target/speed-photos --part train",
        &["--what export --photos target/speed-photos --part train"],
    ),
    data(
        "export of 2,000, training images alone (PIL, a bare paste)",
        "--what export --photos target/speed-photos --part train",
        &["--what export --photos target/speed-photos --part train --how paste"],
    )
    .target(1.0),
];

/// The methods, each end to end at a small size.
pub const METHODS: [(&str, &str); 15] = [
    ("MoCo v2", "--what moco-v2 --batch 64 --size 32"),
    ("BYOL", "--what byol --batch 64 --size 32"),
    ("MSF", "--what msf --batch 64 --size 32"),
    ("Jigsaw, 48 px", "--what jigsaw --batch 64 --size 48"),
    ("RotNet", "--what rotnet --batch 64 --size 32"),
    ("MAE, ViT of 4 blocks, 96-d, patch 4", "--what mae --batch 64 --size 32"),
    ("SimCLR", "--what simclr --batch 64 --size 32"),
    ("SimCLR v2", "--what simclr-v2 --batch 64 --size 32"),
    ("SimSiam", "--what simsiam --batch 64 --size 32"),
    ("Barlow Twins", "--what barlow-twins --batch 64 --size 32"),
    ("VICReg", "--what vicreg --batch 64 --size 32"),
    ("MoCo v3", "--what moco-v3 --batch 64 --size 32"),
    ("SwAV, six small crops", "--what swav --batch 64 --size 32"),
    ("DINO, eight small crops", "--what dino --batch 64 --size 32"),
    ("DeepCluster v2, six small crops", "--what deepcluster-v2 --batch 64 --size 32"),
];
