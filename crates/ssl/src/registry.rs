//! The table of methods: their names in configs, and how each is built.

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_model::EncoderConfig;

use crate::barlow_twins::{BarlowTwins, BarlowTwinsConfig};
use crate::byol::{Byol, ByolConfig};
use crate::deepcluster::{DeepCluster, DeepClusterConfig};
use crate::dino::{Dino, DinoConfig};
use crate::error::PretrainError;
use crate::jigsaw::{Jigsaw, JigsawConfig};
use crate::mae::{Mae, MaeConfig};
use crate::method::Method;
use crate::moco::{Moco, MocoConfig};
use crate::moco_v3::{MocoV3, MocoV3Config};
use crate::msf::{Msf, MsfConfig};
use crate::rotnet::{RotNet, RotNetConfig};
use crate::settings::MethodSettings;
use crate::simclr::{Simclr, SimclrConfig};
use crate::simclr_v2::{SimclrV2, SimclrV2Config};
use crate::simsiam::{SimSiam, SimSiamConfig};
use crate::swav::{Swav, SwavConfig};
use crate::vicreg::{Vicreg, VicregConfig};

/// The self-supervised method and its own settings. The defaults are those of its publication or official code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MethodConfig {
    /// MoCo v2 (He et al., 2020; Chen et al., 2020).
    MocoV2(MocoConfig),
    /// BYOL (Grill et al., 2020).
    Byol(ByolConfig),
    /// MSF, mean shift (Koohpayegani et al., 2021).
    Msf(MsfConfig),
    /// Jigsaw puzzles (Noroozi and Favaro, 2016).
    Jigsaw(JigsawConfig),
    /// RotNet, predicting rotations (Gidaris et al., 2018).
    Rotnet(RotNetConfig),
    /// Masked autoencoder (He et al., 2022).
    Mae(MaeConfig),
    /// SimCLR (Chen et al., 2020) with the training settings of CTRL's victim.
    Simclr(SimclrConfig),
    /// SimCLR v2 (Chen et al., 2020).
    SimclrV2(SimclrV2Config),
    /// SimSiam (Chen and He, 2021).
    Simsiam(SimSiamConfig),
    /// Barlow Twins (Zbontar et al., 2021).
    BarlowTwins(BarlowTwinsConfig),
    /// VICReg (Bardes et al., 2022).
    Vicreg(VicregConfig),
    /// MoCo v3 (Chen et al., 2021).
    MocoV3(MocoV3Config),
    /// SwAV (Caron et al., 2020).
    Swav(SwavConfig),
    /// DINO (Caron et al., 2021).
    Dino(DinoConfig),
    /// DeepCluster v2 (Caron et al., 2020).
    #[serde(rename = "deepcluster-v2")]
    DeepCluster(DeepClusterConfig),
}

/// Code that is generic over methods, because each method has its own type.
pub trait WithMethod {
    /// The result of the code.
    type Output;

    /// Runs the code on `method`.
    ///
    /// # Errors
    /// Any error of the code.
    fn on<M: Method>(self, method: M) -> Result<Self::Output, PretrainError>;
}

/// Evaluates `work` with the config in a [`MethodConfig`], whichever it is.
macro_rules! each {
    ($method:expr, $config:ident => $work:expr) => {
        match $method {
            MethodConfig::MocoV2($config) => $work,
            MethodConfig::Byol($config) => $work,
            MethodConfig::Msf($config) => $work,
            MethodConfig::Jigsaw($config) => $work,
            MethodConfig::Rotnet($config) => $work,
            MethodConfig::Mae($config) => $work,
            MethodConfig::Simclr($config) => $work,
            MethodConfig::SimclrV2($config) => $work,
            MethodConfig::Simsiam($config) => $work,
            MethodConfig::BarlowTwins($config) => $work,
            MethodConfig::Vicreg($config) => $work,
            MethodConfig::MocoV3($config) => $work,
            MethodConfig::Swav($config) => $work,
            MethodConfig::Dino($config) => $work,
            MethodConfig::DeepCluster($config) => $work,
        }
    };
}

impl MethodConfig {
    /// The method's settings.
    pub fn settings(&self) -> &dyn MethodSettings {
        each!(self, config => config)
    }

    /// The method's settings, mutable.
    pub fn settings_mut(&mut self) -> &mut dyn MethodSettings {
        each!(self, config => config)
    }

    /// Runs `work` on the method with a new `net`, for forward passes of `batch` images. Its weights are drawn from
    /// `seed`; `device` is an autodiff device.
    ///
    /// # Errors
    /// The method does not train such an encoder, or `work` fails.
    pub fn build<W: WithMethod>(
        &self,
        net: &EncoderConfig,
        batch: usize,
        seed: u64,
        device: &Device,
        work: W,
    ) -> Result<W::Output, PretrainError> {
        match self {
            Self::MocoV2(own) => work.on(Moco::new(own, net, batch, seed, device)),
            Self::Byol(own) => work.on(Byol::new(own, net, batch, seed, device)),
            Self::Msf(own) => work.on(Msf::new(own, net, batch, seed, device)),
            Self::Jigsaw(own) => work.on(Jigsaw::new(own, net, seed, device)),
            Self::Rotnet(_) => work.on(RotNet::new(net, seed, device)),
            Self::Mae(own) => work.on(Mae::new(own, net, seed, device)?),
            Self::Simclr(own) => work.on(Simclr::new(own, net, batch, seed, device)),
            Self::SimclrV2(own) => work.on(SimclrV2::new(own, net, batch, seed, device)),
            Self::Simsiam(own) => work.on(SimSiam::new(own, net, seed, device)),
            Self::BarlowTwins(own) => work.on(BarlowTwins::new(own, net, seed, device)),
            Self::Vicreg(own) => work.on(Vicreg::new(own, net, seed, device)),
            Self::MocoV3(own) => work.on(MocoV3::new(own, net, batch, seed, device)),
            Self::Swav(own) => work.on(Swav::new(own, net, seed, device)),
            Self::Dino(own) => work.on(Dino::new(own, net, seed, device)),
            Self::DeepCluster(own) => work.on(DeepCluster::new(own, net, seed, device)),
        }
    }
}
