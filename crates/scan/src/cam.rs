//! Grad-CAM (Selvaraju et al., 2017): which places of an image support its cluster.

use burn::tensor::Tensor;

use crate::Frozen;
use crate::clusters::top;
use crate::frozen::unit_rows;

/// Grad-CAM of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct GradCam {
    /// The column of the largest cosine: the cluster whose score is explained.
    pub cluster: u32,
    /// Rows and columns of the map.
    pub grid: [usize; 2],
    /// How much each place supports the cluster, 0 or more, row by row.
    pub map: Vec<f32>,
}

/// Grad-CAM of the score of the top column, the cosine of feature and column, in the last spatial map
/// ([`Encoder::forward_through_map`](ssl_backdoor_model::Encoder::forward_through_map)): the channels are summed,
/// each weighted by the mean of the score's gradient over its places, and negative values are set to 0.
///
/// # Shapes
/// - `images`: `[batch, 3, height, width]`, normalised, on the device of `encoder`
/// - `columns`: `[dim, clusters]`, columns of norm 1, on the same device
pub fn grad_cam(encoder: &Frozen, images: Tensor<4>, columns: &Tensor<2>) -> Vec<GradCam> {
    let mut seen: Option<Tensor<4>> = None;
    let features = encoder.encoder().forward_through_map(images, |map| {
        // The layers before the map need no gradient.
        let map = map.detach().require_grad();
        seen = Some(map.clone());
        map
    });
    let cosines = unit_rows(features).matmul(columns.clone());
    let Some(map) = seen else { return Vec::new() };
    let clusters = top(cosines.clone().detach());
    // An image's score depends on no other image of the batch, so the gradient of the sum contains each one's.
    let grads = cosines.max_dim(1).sum().backward();
    let [batch, rows, columns, channels] = map.dims();
    let places = rows * columns;
    let flat = |map: Tensor<4>| map.reshape([batch, places, channels]);
    let values = flat(map.clone().inner());
    let slopes = map.grad(&grads).map(flat).unwrap_or_else(|| values.zeros_like());
    let weights = slopes.mean_dim(1);
    let cams: Vec<f32> = (values * weights).sum_dim(2).clamp_min(0.0).into_data().iter().collect();
    let one = |(cam, cluster): (&[f32], u32)| GradCam {
        cluster,
        grid: [rows, columns],
        map: cam.to_vec(),
    };
    cams.chunks_exact(places).zip(clusters).map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::module::Module;
    use burn::tensor::{Device, TensorData};
    use safetensors::SafeTensors;
    use ssl_backdoor_model::{
        EncoderConfig, EncoderHeader, Interpolation, Positions, Preprocessing, Stem, load_encoder,
    };

    use super::*;

    /// Against PyTorch's autograd (`tests/fixtures/cam.py`): a tiny ResNet and a tiny ViT.
    #[test]
    fn the_map_is_that_of_pytorch() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let bytes = std::fs::read(folder.join("cam.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let device = Device::flex();
        for (name, config, size) in [
            ("resnet", EncoderConfig::Resnet18 { width: 2, stem: Stem::Small }, 32),
            (
                "vit",
                EncoderConfig::Vit {
                    dim: 16,
                    depth: 2,
                    heads: 2,
                    patch: 8,
                    positions: Positions::Learned(4),
                },
                32,
            ),
        ] {
            let (mean, std, interpolation) = ([0.0; 3], [1.0; 3], Interpolation::Bilinear);
            let images = Preprocessing { size, mean, std, interpolation };
            let header = EncoderHeader::new(config, images);
            let weights = folder.join(format!("cam-{name}.safetensors"));
            let encoder = Frozen::new(&load_encoder(&header, &weights, &device).unwrap(), &device);
            let of = |part: &str| -> (Vec<f32>, Vec<usize>) {
                let view = file.tensor(&format!("{name}.{part}")).unwrap();
                let values = view.data().chunks_exact(4);
                let values = values.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
                (values, view.shape().to_vec())
            };
            let on = encoder.device();
            let (images, shape) = of("images");
            let images = Tensor::<4>::from_data(TensorData::new(images, shape), on);
            let (columns, shape) = of("columns");
            let columns = Tensor::<2>::from_data(TensorData::new(columns, shape), on);
            let found = grad_cam(&encoder, images, &columns);
            let (maps, shape) = of("maps");
            assert_eq!(found.len(), shape[0]);
            let largest = maps.iter().fold(0.0f32, |a, b| a.max(*b));
            assert!(largest > 0.0);
            let (clusters, _) = of("clusters");
            for ((cam, map), cluster) in
                found.iter().zip(maps.chunks_exact(shape[1] * shape[2])).zip(clusters)
            {
                assert_eq!((cam.grid, cam.cluster), ([shape[1], shape[2]], cluster as u32));
                for (a, b) in cam.map.iter().zip(map) {
                    assert!((a - b).abs() < 1e-4 * largest, "{name}: {a} {b}");
                }
            }
            // Each image has its own map, whatever else is in the batch.
            assert!(found[0].map != found[1].map);
        }
    }

    #[test]
    fn an_image_without_a_feature_has_an_empty_map() {
        let device = Device::flex();
        let mut rng = ssl_backdoor_rng::keyed(1, crate::purpose::PATCH_NET, 0, 0, 0);
        let config = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let encoder = config.init(&mut rng, &device).valid();
        let frozen = Frozen::new(&encoder, &device);
        let images = Tensor::<4>::zeros([2, 3, 16, 16], frozen.device());
        let columns = Tensor::<2>::ones([16, 3], frozen.device());
        for cam in grad_cam(&frozen, images, &columns) {
            assert!(cam.map.iter().all(|v| v.is_finite()), "{cam:?}");
        }
    }
}
