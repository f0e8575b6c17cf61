//! Fused operations that make CPU training fast, as a Burn backend extension.
