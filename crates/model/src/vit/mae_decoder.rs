//! MAE's decoder (docs/protocol.md, 2.6); parameters are named as in the official MAE.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, s};
use rand::Rng;

use super::block::{Block, LayerNorm, layer_norm, linear, on_rows};
use super::positions::positions;
use crate::init;

/// MAE's decoder: a narrower transformer over all patches, with a mask token for those hidden from the encoder.
#[derive(Module, Debug)]
pub struct MaeDecoder {
    decoder_embed: Linear,
    /// `[1, 1, dim]`
    mask_token: Param<Tensor<3>>,
    decoder_blocks: Vec<Block>,
    decoder_norm: LayerNorm,
    decoder_pred: Linear,
}

impl MaeDecoder {
    /// A decoder for an encoder with tokens of length `from` and patches of `patch` pixels.
    pub fn new(
        from: usize,
        [dim, depth, heads, patch]: [usize; 4],
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        Self {
            decoder_embed: linear(from, dim, rng, device),
            mask_token: init::tokens(1, dim, rng, device),
            decoder_blocks: (0..depth).map(|_| Block::new(dim, heads, rng, device)).collect(),
            decoder_norm: layer_norm(dim, device),
            decoder_pred: linear(dim, 3 * patch * patch, rng, device),
        }
    }

    /// Reconstructs the pixels of all patches, `[batch, patches, 3 · patch²]`.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, 1 + seen, from]`, class token first
    /// - `places`: `[batch · patches]`, for each patch the row of its token among the batch's seen
    ///   ones (`image · seen + i`), or `batch · seen` if it is hidden
    /// - `grid`: rows and columns of patches
    pub fn forward(
        &self,
        tokens: Tensor<3>,
        places: Tensor<1, Int>,
        grid: [usize; 2],
    ) -> Tensor<3> {
        let x = on_rows(&self.decoder_embed, tokens);
        let [batch, with_class, dim] = x.dims();
        let (seen, count) = (with_class - 1, grid[0] * grid[1]);
        let device = x.device();
        let class = x.clone().slice(s![.., 0..1, ..]);
        let rows = x.slice(s![.., 1.., ..]).reshape([batch * seen, dim]);
        let mask = self.mask_token.val().reshape([1, dim]);
        let all = Tensor::cat(vec![rows, mask], 0).select(0, places);
        let all = all.reshape([batch, count, dim]) + positions(grid, dim, &device).unsqueeze();
        let x = Tensor::cat(vec![class, all], 1);
        let x = self.decoder_blocks.iter().fold(x, |x, block| block.forward(x));
        let x = on_rows(&self.decoder_pred, self.decoder_norm.forward(x));
        x.slice(s![.., 1.., ..])
    }
}
