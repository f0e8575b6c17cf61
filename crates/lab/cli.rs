//! The command line: what there is to say, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ssl_backdoor::Stage;
use ssl_backdoor_model::{ImportOptions, Interpolation};

/// Backdoor attacks on self-supervised learning: poison, pretrain, probe, report.
///
/// Reproduces and measures the attack of Saha et al. (CVPR 2022) for research on defences.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  ssl-backdoor run configs/quickstart.toml")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run an experiment from poison to report, or go on where it stopped.
    ///
    /// Trains a clean twin and a backdoored model that share everything but the poisoned pixels,
    /// probes both, and writes scores.json, report.html and report.md to the run folder. Running
    /// the same command again resumes; finished stages are skipped.
    #[command(after_help = "Examples:\n  ssl-backdoor run configs/quickstart.toml\n  \
        ssl-backdoor run configs/quickstart.toml --set seed=7 --out runs/seed-7\n  \
        ssl-backdoor run configs/fashion-mnist/moco-v2.toml --until poison")]
    Run {
        /// The experiment, a TOML file.
        config: PathBuf,
        /// The run folder [default: runs/NAME, NAME from the config].
        #[arg(long)]
        out: Option<PathBuf>,
        /// Override a key of the config, for example pretrain.epochs=2; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Take the clean twin from this run folder, of the same settings, instead of training one.
        #[arg(long, value_name = "DIR")]
        twin: Option<PathBuf>,
        /// Stop after this stage.
        #[arg(long, value_enum, default_value = "report")]
        until: Stage,
    },
    /// Run a grid of experiments, or go on where it stopped.
    ///
    /// FILE names a base config and axes; every combination of their points is a run in its own folder and
    /// process. Runs that share images, method and seed share a clean twin, which is trained once. A run that
    /// fails is reported, the others go on.
    #[command(
        after_help = "Examples:\n  ssl-backdoor sweep configs/fashion-mnist/table.toml --dry-run\n  \
        ssl-backdoor sweep configs/fashion-mnist/table.toml --jobs 2\n  \
        ssl-backdoor sweep configs/imagenet100/table.toml --devices cuda:0,cuda:1"
    )]
    Sweep {
        /// The sweep, a TOML file.
        file: PathBuf,
        /// Runs at the same time, each with its share of the cores.
        #[arg(long, default_value = "1")]
        jobs: usize,
        /// Run one process on each of these devices, for example cuda:0,cuda:1, in place of --jobs.
        #[arg(long, value_delimiter = ',', conflicts_with = "jobs")]
        devices: Vec<String>,
        /// Override a key of every run, for example pretrain.epochs=2; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Check every config, say what would be trained, and how long it would take.
        #[arg(long)]
        dry_run: bool,
    },
    /// The paper's tables over many runs: table.html, table.md and table.csv.
    ///
    /// Takes every run (a folder with scores.json) in the given folders, groups those that differ in target,
    /// trigger and seed only, and puts the published figures beside them.
    #[command(after_help = "Examples:\n  ssl-backdoor report results/fashion-mnist\n  \
        ssl-backdoor report runs/a runs/b --out /tmp/comparison")]
    Report {
        /// Run folders, or folders of run folders.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where the report goes [default: the first of RUNS].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Export a poisoned data set: images, file lists and ledger, in the layout of the paper's code.
    ///
    /// Reads only [data] and [poison] of a config, or one of the reference's INI files (*.cfg). Poisoned
    /// training images replace the originals in the training list; every validation image is resized,
    /// cropped and patched. The ledgers (poison.csv, val_poisoned.csv) say what was done to each image.
    #[command(
        after_help = "Examples:\n  ssl-backdoor poison configs/quickstart.toml --out /tmp/poisoned\n  \
        ssl-backdoor poison HTBA_trigger_10_targeted_n02106550.cfg\n  \
        ssl-backdoor poison --clean /tmp/poisoned > clean_filelist.txt"
    )]
    Poison {
        /// The experiment (TOML), or a config of the reference (*.cfg).
        #[arg(required_unless_present = "clean")]
        config: Option<PathBuf>,
        /// Where to export; must not exist or be empty [default for *.cfg: its poison_savedir].
        #[arg(long)]
        out: Option<PathBuf>,
        /// Override a key of the config; may be repeated. For a *.cfg: seed and size only.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Write PNG instead of JPEG of quality 75.
        #[arg(long)]
        lossless: bool,
        /// Print the training list of this export with every poisoned image put back.
        #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "out", "lossless"])]
        clean: Option<PathBuf>,
    },
    /// Rebuild an export from its ledgers and compare it byte for byte.
    ///
    /// Names every file that was changed, is missing, or is in no ledger. Exit status 1 if there is one.
    #[command(after_help = "Example:\n  ssl-backdoor verify /tmp/poisoned")]
    Verify {
        /// The folder that `poison` wrote.
        dir: PathBuf,
    },
    /// Score an encoder that came from elsewhere: clean and patched images, no pretraining.
    ///
    /// Trains only the classifier of [probe] on its frozen features, and puts an untrained network of the same
    /// kind beside it. Of the config, [data], [poison] and [probe] count; images are prepared as the encoder file says
    /// (size, interpolation, mean, std). Checkpoints of other tools go through `convert` first, which records that.
    #[command(
        after_help = "Example:\n  ssl-backdoor probe --encoder encoder.safetensors configs/fashion-mnist/moco-v2.toml"
    )]
    Probe {
        /// The encoder file.
        #[arg(long, value_name = "FILE")]
        encoder: PathBuf,
        /// The experiment, a TOML file.
        config: PathBuf,
        /// Where foreign.json, the scores, goes [default: runs/NAME-FILE].
        #[arg(long)]
        out: Option<PathBuf>,
        /// Override a key of the config; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Turn a checkpoint of another tool into an encoder file, or an encoder file into one for PyTorch.
    ///
    /// Reads torchvision's ResNets and timm's ViTs as MoCo, MoCo v3, DINO, MAE, solo-learn, lightly, lightning-bolts,
    /// vissl, timm and the reference repository write them, from .pth, .pth.tar, .pt, .ckpt and .safetensors. Takes the
    /// network that the tool evaluates, and prints what it assumed. Writes safetensors with torchvision's names (of a
    /// ViT timm's), which PyTorch loads with strict=True; the file records how images are prepared, which
    /// `probe --encoder` then does.
    #[command(
        after_help = "Examples:\n  ssl-backdoor convert moco_v2_800ep.pth.tar moco.safetensors --backbone\n  \
        ssl-backdoor convert cifar_resnet18.pth cifar.safetensors --size 32 --stem-padding 2\n  \
        ssl-backdoor convert runs/quickstart/backdoored/encoder.safetensors for-pytorch.safetensors\n  \
        ssl-backdoor convert runs/quickstart/backdoored whole.safetensors"
    )]
    Convert {
        /// The checkpoint, or the folder of a model in a run folder, for its heads and queues too.
        input: PathBuf,
        /// The encoder file, .safetensors.
        output: PathBuf,
        /// Leave out heads, queues and other networks.
        #[arg(long)]
        backbone: bool,
        #[command(flatten)]
        import: ImportArgs,
    },
    /// Show devices, data sets, disk and versions, and try a training step on each device.
    #[command(after_help = "Example:\n  ssl-backdoor doctor")]
    Doctor,
    /// Print the completions of a shell.
    #[command(
        after_help = "Example:\n  ssl-backdoor completions bash > ~/.local/share/bash-completion/completions/ssl-backdoor"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages, one for each command.
    #[command(after_help = "Example:\n  ssl-backdoor man ~/.local/share/man/man1")]
    Man {
        /// A folder that is there.
        dir: PathBuf,
    },
}

/// What a checkpoint does not say.
#[derive(Args)]
pub struct ImportArgs {
    /// What the names of the encoder's arrays begin with [default: the network that its tool evaluates]. The last dot,
    /// `module.` and outer tables such as `state_dict.` may be left out.
    #[arg(long)]
    prefix: Option<String>,
    /// Attention heads of a ViT [default: what its tool builds, else one for each 64 numbers of a token].
    #[arg(long)]
    heads: Option<usize>,
    /// Padding of a ResNet's first convolution in pixels [default: what its tool builds, else half the kernel].
    #[arg(long)]
    stem_padding: Option<usize>,
    /// Stride of a ResNet's first convolution in pixels [default: 2 of a 7x7 kernel, 1 of a 3x3 one].
    #[arg(long)]
    stem_stride: Option<usize>,
    /// Whether a 3x3 max-pool of stride 2 follows it [default: what its tool builds, else true of a 7x7 kernel].
    #[arg(long)]
    max_pool: Option<bool>,
    /// Side of its images in pixels, 8 to 1024 [default: 224 with a 7x7 stem, or what a ViT's positions say].
    #[arg(long)]
    size: Option<u32>,
    /// Per-channel mean of values in 0 to 1 [default: ImageNet's].
    #[arg(long, value_name = "R,G,B", value_parser = by_channel, requires = "std")]
    mean: Option<[f32; 3]>,
    /// Per-channel standard deviation of values in 0 to 1 [default: ImageNet's].
    #[arg(long, value_name = "R,G,B", value_parser = by_channel, requires = "mean")]
    std: Option<[f32; 3]>,
    /// How its evaluation images are resized, bilinear or bicubic [default: bilinear].
    #[arg(long)]
    interpolation: Option<Interpolation>,
}

impl From<ImportArgs> for ImportOptions {
    fn from(args: ImportArgs) -> Self {
        Self {
            prefix: args.prefix,
            heads: args.heads,
            stem_padding: args.stem_padding,
            stem_stride: args.stem_stride,
            max_pool: args.max_pool,
            size: args.size,
            mean_std: args.mean.zip(args.std).map(|(mean, std)| [mean, std]),
            interpolation: args.interpolation,
        }
    }
}

/// Three numbers with commas between.
fn by_channel(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let three = numbers.and_then(|numbers| <[f32; 3]>::try_from(numbers).ok());
    three
        .filter(|of| of.iter().all(|v| v.is_finite()))
        .ok_or("expected three numbers, R,G,B".into())
}

impl Command {
    /// Every path of the command line.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Run { config, out, twin, .. } => {
                std::iter::once(config).chain(out).chain(twin).collect()
            }
            Self::Sweep { file, .. } => vec![file],
            Self::Report { runs, out } => runs.iter_mut().chain(out).collect(),
            Self::Poison { config, out, clean, .. } => {
                config.iter_mut().chain(out).chain(clean).collect()
            }
            Self::Verify { dir } | Self::Man { dir } => vec![dir],
            Self::Probe { encoder, config, out, .. } => {
                [encoder, config].into_iter().chain(out).collect()
            }
            Self::Convert { input, output, .. } => vec![input, output],
            Self::Doctor | Self::Completions { .. } => Vec::new(),
        }
    }
}
