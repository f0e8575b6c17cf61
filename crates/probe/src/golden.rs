//! Compares the probes with PyTorch and scikit-learn (`tests/fixtures/probe.py`).

use burn::module::{Param, ParamId};
use burn::nn::LinearConfig;
use burn::tensor::Device;
use safetensors::SafeTensors;
use ssl_backdoor_model::init;

use crate::{Features, LinearProbe, ProbeConfig, Vote, knn};

struct Fixture(Vec<u8>);

impl Fixture {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probe.safetensors");
        Self(std::fs::read(path).unwrap())
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        tensor.data().chunks_exact(4).map(|b| b.try_into().unwrap()).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn whole(&self, name: &str) -> Vec<u32> {
        self.words(name).into_iter().map(u32::from_le_bytes).collect()
    }

    fn features(&self, values: &str, labels: &str) -> Features {
        Features { values: self.floats(values), dim: 12, labels: self.whole(labels) }
    }
}

#[test]
fn the_linear_probe_is_pytorchs() {
    let (fixture, device) = (Fixture::open(), Device::flex().autodiff());
    let config = ProbeConfig { batch: 32, ..ProbeConfig::default() };
    let (train, eval) = (fixture.features("train", "labels"), fixture.features("eval", "truth"));
    let mut linear = LinearConfig::new(12, 5).init(&device);
    let weight = init::matrix(fixture.floats("weight"), 5, &device).require_grad();
    let bias = init::matrix(fixture.floats("bias"), 5, &device).reshape([5]).require_grad();
    linear.weight = Param::initialized(ParamId::new(), weight);
    linear.bias = Some(Param::initialized(ParamId::new(), bias));
    let orders = fixture.whole("orders");
    let order = |epoch: u32| {
        let first = epoch as usize * 150;
        orders[first..first + 150].iter().map(|&i| i.into()).collect()
    };
    let expected = fixture.floats("losses");
    let mut epochs = 0;
    let probe = LinearProbe::fit_from(&config, &train, linear, order, |epoch, loss| {
        epochs += 1;
        let expected = expected[epoch as usize];
        assert!((loss - expected).abs() < 1e-4, "epoch {epoch}: {loss} {expected}");
    });
    assert_eq!(epochs, 40);
    // 99.9 % agreement on 600 images allows no difference.
    assert_eq!(probe.predict(&eval).unwrap(), fixture.whole("predicted"));
}

/// Two and four neighbours tie often; `ties` counts, for each k, the images that the lowest class would get wrong.
#[test]
fn field_f04_neighbours_vote_as_in_scikit_learn_and_ties_go_to_the_nearest() {
    let fixture = Fixture::open();
    let (train, eval) = (fixture.features("train", "labels"), fixture.features("eval", "truth"));
    let ks = [1, 2, 4, 5, 20];
    assert_eq!(fixture.whole("ties"), [0, 202, 90, 90, 40]);
    for (name, vote) in
        [("majority", Vote::Majority), ("weighted", Vote::Weighted { temperature: 0.07 })]
    {
        let found = knn(&train, &eval, 5, &ks, vote, &Device::flex()).unwrap();
        for (k, found) in ks.iter().zip(found) {
            assert_eq!(found, fixture.whole(&format!("knn.{name}.{k}")), "{name} {k}");
        }
    }
}
