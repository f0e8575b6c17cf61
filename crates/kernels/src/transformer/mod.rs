//! The operations of a transformer's blocks on burn-flex: linear layers, GELU, layer norm and
//! attention, each with its gradients. Other devices use ordinary Burn operations.

mod attention;
mod exp;
mod extension;
mod gelu;
mod layer_norm;
mod linear;
mod product;

pub(crate) use extension::{attention, gelu, layer_norm, linear};

/// The kernels themselves, for tests without Burn.
#[cfg(test)]
pub(crate) mod kernels {
    pub(crate) use super::attention::{attention, attention_backward};
    pub(crate) use super::gelu::{gelu, gelu_backward};
    pub(crate) use super::layer_norm::{layer_norm, layer_norm_backward};
    pub(crate) use super::linear::{linear, linear_backward};
}
#[cfg(test)]
pub(crate) use self::{attention::Heads, layer_norm::Norm, linear::Layer};

#[cfg(test)]
mod tests;
