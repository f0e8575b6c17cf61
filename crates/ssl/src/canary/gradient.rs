//! Checks of all gradients of a step.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use ssl_backdoor_model::{OnParameter, for_each_parameter};

/// The L2 norm of all gradients together.
pub(super) fn norm<M: Module>(module: &M, grads: &GradientsParams) -> f32 {
    let squares = Squares::of(module, grads).sums;
    if squares.is_empty() {
        return 0.0;
    }
    Tensor::cat(squares, 0).sum().sqrt().into_scalar()
}

/// The path of the first parameter whose gradient is not finite.
pub(super) fn not_finite<M: Module>(module: &M, grads: &GradientsParams) -> Option<String> {
    let Squares { sums, paths, .. } = Squares::of(module, grads);
    let sums = sums.into_iter().map(|sum| sum.into_scalar::<f32>());
    paths.into_iter().zip(sums).find(|(_, sum)| !sum.is_finite()).map(|(path, _)| path)
}

/// The sum of squares of each gradient.
struct Squares<'a> {
    grads: &'a GradientsParams,
    paths: Vec<String>,
    sums: Vec<Tensor<1>>,
}

impl<'a> Squares<'a> {
    fn of<M: Module>(module: &M, grads: &'a GradientsParams) -> Self {
        let mut squares = Self { grads, paths: Vec::new(), sums: Vec::new() };
        for_each_parameter(module, &mut squares);
        squares
    }
}

impl OnParameter for Squares<'_> {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.grads.get::<D>(param.id) {
            self.sums.push(gradient.powi_scalar(2).sum());
            self.paths.push(path.to_owned());
        }
    }
}
