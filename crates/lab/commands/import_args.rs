//! The options of `convert` for properties that a checkpoint does not contain.

use clap::Args;
use ssl_backdoor_model::{ImportOptions, Interpolation};

/// Properties that a checkpoint does not contain.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Prefix of the names of the encoder's arrays [default: the network that its tool evaluates]. The last dot,
    /// `module.` and outer tables such as `state_dict.` may be omitted.
    #[arg(long)]
    prefix: Option<String>,
    /// Attention heads of a ViT [default: as its tool builds it, or one per 64 features of a token].
    #[arg(long)]
    heads: Option<usize>,
    /// Padding of a ResNet's first convolution in pixels [default: as its tool builds it, or half the kernel].
    #[arg(long)]
    stem_padding: Option<usize>,
    /// Stride of the first convolution in pixels [default: 2 for a ResNet with a 7x7 kernel and
    /// for a RegNet, 1 with a 3x3 kernel].
    #[arg(long)]
    stem_stride: Option<usize>,
    /// Whether a 3x3 max-pool of stride 2 follows [default: as its tool builds it, or true with a 7x7 kernel].
    #[arg(long)]
    max_pool: Option<bool>,
    /// Side of its images in pixels, 8 to 1024 [default: 224 with an ImageNet stem, or from a ViT's positions].
    /// Learned positions are interpolated for another size.
    #[arg(long)]
    size: Option<u32>,
    /// Per-channel mean of pixel values from 0 to 1 [default: ImageNet's].
    #[arg(long, value_name = "R,G,B", value_parser = by_channel, requires = "std")]
    mean: Option<[f32; 3]>,
    /// Per-channel standard deviation of pixel values from 0 to 1 [default: ImageNet's].
    #[arg(long, value_name = "R,G,B", value_parser = by_channel, requires = "mean")]
    std: Option<[f32; 3]>,
    /// Interpolation for its evaluation images: bilinear or bicubic [default: bilinear].
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

/// Three numbers separated by commas.
fn by_channel(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let three = numbers.and_then(|numbers| <[f32; 3]>::try_from(numbers).ok());
    three
        .filter(|of| of.iter().all(|v| v.is_finite()))
        .ok_or("expected three numbers, R,G,B".into())
}
