//! A convolution with its batch norm, as callers pass it.

use burn::tensor::Tensor;

/// A convolution without bias, padded by half its kernel, followed by batch norm.
#[derive(Debug, Clone)]
pub struct Unit {
    /// `[out, in, kernel, kernel]`, kernel odd. For a grouped convolution, which only
    /// [`conv_norm`](crate::conv_norm) accepts, `[out, in / groups, kernel, kernel]`.
    pub weight: Tensor<4>,
    /// Learnt scale of the batch norm, `[out]`.
    pub scale: Tensor<1>,
    /// Learnt shift of the batch norm, `[out]`.
    pub shift: Tensor<1>,
    /// Mean and variance to normalise with, `[2, out]`, as constants. If `None`, the mean and biased
    /// variance of the batch are used (training), and gradients flow through them.
    pub running: Option<Tensor<2>>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Stride of the convolution.
    pub stride: usize,
}

impl Unit {
    /// # Panics
    /// If the unit does not accept images of this many channels.
    pub(crate) fn check(&self, channels: usize) {
        let [out, from, ..] = self.weight.dims();
        assert_eq!(channels, from, "the weight [{out}, {from}, ..] does not fit the images");
        self.check_grouped(channels);
    }

    /// # Panics
    /// If the unit does not accept images of this many channels in as many groups as its weight implies.
    pub(crate) fn check_grouped(&self, channels: usize) {
        let [out, from, kernel, kernel_width] = self.weight.dims();
        let whole = from > 0 && channels.is_multiple_of(from);
        assert!(
            whole && out.is_multiple_of(channels / from.max(1)),
            "the weight [{out}, {from}, ..] does not divide {channels} channels into groups"
        );
        assert!(
            kernel == kernel_width && kernel % 2 == 1,
            "the kernel is {kernel} x {kernel_width}: it must be square and odd"
        );
        assert!(self.stride >= 1, "the stride is 0: it must be at least 1");
        let [scale, shift] = [&self.scale, &self.shift].map(|vector| vector.dims()[0]);
        assert!(
            (scale, shift) == (out, out),
            "scale and shift have lengths {scale} and {shift}: both must be {out}"
        );
        if let Some(running) = &self.running {
            let dims = running.dims();
            assert!(dims == [2, out], "running statistics are {dims:?}: they must be [2, {out}]");
        }
    }

    /// Whether all its parameters are in 32 bits.
    #[cfg(feature = "flex")]
    pub(crate) fn in_32_bits(&self) -> bool {
        let vectors = [Some(self.scale.dtype()), Some(self.shift.dtype())];
        let others = [Some(self.weight.dtype()), self.running.as_ref().map(Tensor::dtype)];
        vectors.iter().chain(&others).flatten().all(|dtype| *dtype == burn::tensor::DType::F32)
    }
}
