//! The layers of the networks, forward and backward, at the shapes of trainings.

use std::time::Instant;

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use ssl_backdoor_kernels as kernels;
use ssl_backdoor_model::{BatchNorm, init, purpose};
use ssl_backdoor_rng::keyed;

use super::depth::Depth;

/// Timed repetitions of a layer.
const TIMED: usize = 5;

/// A layer at one shape.
pub(super) struct Layer {
    /// Its name and shape.
    pub name: String,
    kind: Kind,
}

/// The axes of an input are `[batch, channels, side, side]` or `[batch, tokens, dim]`.
#[derive(Clone, Copy)]
enum Kind {
    Convolution { input: [usize; 4], out: usize, kernel: usize, stride: usize, groups: usize },
    BatchNorm { rows: usize, channels: usize },
    LayerNorm { input: [usize; 3] },
    Attention { input: [usize; 3], heads: usize },
    Linear { input: [usize; 3], out: usize },
}

impl Layer {
    /// The layers that are compared.
    pub fn all(depth: Depth) -> Vec<Self> {
        let conv = |input, out, kernel, stride, groups| Kind::Convolution {
            input,
            out,
            kernel,
            stride,
            groups,
        };
        let kinds = match depth {
            Depth::Small => vec![
                conv([4, 16, 8, 8], 16, 3, 1, 1),
                conv([4, 16, 9, 9], 24, 3, 2, 1),
                conv([4, 16, 8, 8], 24, 1, 1, 1),
                conv([4, 16, 9, 9], 24, 1, 2, 1),
                Kind::BatchNorm { rows: 64, channels: 16 },
                Kind::LayerNorm { input: [4, 17, 32] },
                Kind::Attention { input: [4, 17, 32], heads: 4 },
                Kind::Linear { input: [4, 17, 32], out: 64 },
            ],
            Depth::Full => vec![
                // ResNet-18 at 32 px.
                conv([64, 64, 32, 32], 64, 3, 1, 1),
                conv([64, 64, 32, 32], 128, 3, 2, 1),
                conv([64, 64, 32, 32], 128, 1, 2, 1),
                conv([64, 512, 4, 4], 512, 3, 1, 1),
                // ResNets at 224 px: the stem, a first block, both 1×1 of a bottleneck.
                conv([16, 3, 224, 224], 64, 7, 2, 1),
                conv([16, 64, 56, 56], 64, 3, 1, 1),
                conv([16, 64, 56, 56], 256, 1, 1, 1),
                conv([16, 256, 56, 56], 512, 1, 2, 1),
                // RegNetY: 1×1 with widths that are not powers of two (tracel-ai/burn#5626), and groups.
                conv([16, 104, 28, 28], 208, 1, 1, 1),
                conv([16, 440, 14, 14], 440, 1, 1, 1),
                conv([16, 104, 28, 28], 104, 3, 1, 13),
                Kind::BatchNorm { rows: 64 * 32 * 32, channels: 64 },
                // ViTs at 32 px with patches of 4, and at 224 px with patches of 16.
                Kind::LayerNorm { input: [64, 65, 192] },
                Kind::Attention { input: [64, 65, 192], heads: 3 },
                Kind::Attention { input: [16, 197, 384], heads: 6 },
                Kind::Linear { input: [16, 197, 384], out: 1536 },
            ],
        };
        kinds.into_iter().map(|kind| Self { name: kind.name(), kind }).collect()
    }

    /// Output and gradients on `device`, by name, and, if timed, the median milliseconds of forward and backward.
    pub fn compute(&self, device: &Device, timed: bool) -> (Values, Option<f64>) {
        let inputs = self.kind.inputs(&device.clone().autodiff());
        let values = self.kind.compute(&inputs);
        let values =
            values.map(|(name, tensor)| (name, tensor.into_data().iter::<f32>().collect()));
        let milliseconds = timed.then(|| {
            let mut times: Vec<f64> = (0..TIMED)
                .map(|_| {
                    let start = Instant::now();
                    let computed = self.kind.compute(&inputs);
                    // Otherwise, work that the device has not finished would not be timed.
                    drop(device.sync());
                    drop(computed);
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[TIMED / 2]
        });
        (values.into_iter().collect(), milliseconds)
    }
}

/// All values of a layer.
pub(super) type Values = Vec<Named>;

/// A name and its values.
pub(super) type Named = (&'static str, Vec<f32>);

/// The input and the weight: both have gradients.
struct Inputs {
    x: Tensor<1>,
    weight: Tensor<1>,
    /// The weights of the output, so that its gradient is not constant.
    outer: Tensor<1>,
}

impl Kind {
    fn name(self) -> String {
        let by = |axes: &[usize]| axes.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        match self {
            Self::Convolution { input, out, kernel, stride, groups } => {
                let groups = if groups == 1 { String::new() } else { format!(", {groups} groups") };
                format!("conv {kernel}x{kernel}, stride {stride}{groups}, {} to {out}", by(&input))
            }
            Self::BatchNorm { rows, channels } => format!("batch norm, {}", by(&[rows, channels])),
            Self::LayerNorm { input } => format!("layer norm, {}", by(&input)),
            Self::Attention { input, heads } => format!("attention, {heads} heads, {}", by(&input)),
            Self::Linear { input, out } => format!("linear, {} to {out}", by(&input)),
        }
    }

    /// Number of values of the input, the weight and the output.
    fn sizes(self) -> [usize; 3] {
        match self {
            Self::Convolution {
                input: [batch, channels, side, _],
                out,
                kernel,
                stride,
                groups,
            } => {
                let after = (side + 2 * (kernel / 2) - kernel) / stride + 1;
                let weight = out * channels / groups * kernel * kernel;
                [batch * channels * side * side, weight, batch * out * after * after]
            }
            Self::BatchNorm { rows, channels } => [rows * channels, channels, rows * channels],
            Self::LayerNorm { input: [batch, tokens, dim] } => {
                [batch * tokens * dim, dim, batch * tokens * dim]
            }
            Self::Attention { input: [batch, tokens, dim], .. } => {
                [batch * tokens * 3 * dim, 1, batch * tokens * dim]
            }
            Self::Linear { input: [batch, tokens, dim], out } => {
                [batch * tokens * dim, dim * out, batch * tokens * out]
            }
        }
    }

    fn inputs(self, device: &Device) -> Inputs {
        let mut rng = keyed(1, purpose::INIT, 0, 0, 0);
        let [x, weight, out] = self.sizes();
        let mut drawn = |count| {
            let values = TensorData::new(init::normals(count, &mut rng), [count]);
            Tensor::<1>::from_data(values, device)
        };
        let (x, weight, outer) = (drawn(x), drawn(weight), drawn(out));
        Inputs { x: x.require_grad(), weight: weight.require_grad(), outer }
    }

    /// The output and the gradients of both inputs.
    fn compute(self, Inputs { x, weight, outer }: &Inputs) -> [(&'static str, Tensor<1>); 3] {
        let out = self.forward(x.clone(), weight.clone());
        let grads = (out.clone() * outer.clone()).sum().backward();
        let zero = || Tensor::zeros([1], &x.device().inner());
        let gradient = |of: &Tensor<1>| of.grad(&grads).unwrap_or_else(zero);
        let (of_x, of_weight) = (gradient(x), gradient(weight));
        [("output", out.inner()), ("input gradient", of_x), ("weight gradient", of_weight)]
    }

    fn forward(self, x: Tensor<1>, weight: Tensor<1>) -> Tensor<1> {
        let device = &x.device();
        match self {
            Self::Convolution { input, out, kernel, stride, groups } => {
                let options = ConvOptions::new([stride; 2], [kernel / 2; 2], [1, 1], groups);
                let weight = weight.reshape([out, input[1] / groups, kernel, kernel]);
                conv2d(x.reshape(input), weight, None, options).flatten(0, 3)
            }
            Self::BatchNorm { rows, channels } => {
                let norm = BatchNorm::new(channels, device);
                let scaled = norm.forward(x.reshape([rows, channels])) * weight.unsqueeze();
                scaled.flatten(0, 1)
            }
            Self::LayerNorm { input } => {
                let shift = Tensor::zeros([input[2]], device);
                kernels::layer_norm(x.reshape(input), weight, shift, 1e-6).flatten(0, 2)
            }
            Self::Attention { input: [batch, tokens, dim], heads } => {
                let scaled = x * weight;
                kernels::attention(scaled.reshape([batch, tokens, 3 * dim]), heads).flatten(0, 2)
            }
            Self::Linear { input: [batch, tokens, dim], out } => {
                let rows = x.reshape([batch * tokens, dim]);
                let hidden = rows.matmul(weight.reshape([dim, out]));
                kernels::gelu(hidden.reshape([batch, tokens, out])).flatten(0, 2)
            }
        }
    }
}
