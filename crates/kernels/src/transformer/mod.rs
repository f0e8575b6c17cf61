//! What a transformer's blocks do beside their linear layers, on burn-flex: GELU, layer norm and
//! attention, each with its gradients in one pass. Elsewhere they are ordinary Burn operations.

mod attention;
mod exp;
mod extension;
mod gelu;
mod layer_norm;
mod product;

pub(crate) use extension::{attention, gelu, layer_norm};

#[cfg(test)]
mod tests;
