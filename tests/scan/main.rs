//! `scan data` and `scan encoder` through the real binary, on tiny sets and encoders, and the defence `patch-search`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

#[path = "../common/mod.rs"]
mod common;
mod data;
mod encoders;
mod inputs;
mod run;

use std::path::Path;
use std::process::{Command, Output};

use burn::module::Module;
use burn::tensor::Device;
use common::{Lab, stderr};
use image::{Rgb, RgbImage};
use ssl_backdoor_model::{EncoderConfig, Stem, save_encoder};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::encoder_header;

const NET: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };

fn binary(lab: &Lab, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_ssl-backdoor");
    Command::new(program).args(args).current_dir(lab.path(".")).output().unwrap()
}

/// Standard output of a call that must succeed.
fn ok(lab: &Lab, args: &[&str]) -> String {
    let output = binary(lab, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Status and standard error of a call.
fn refused(lab: &Lab, args: &[&str]) -> (i32, String) {
    let output = binary(lab, args);
    assert!(!output.status.success(), "{args:?}");
    let told = stderr(&output);
    assert!(!told.contains("panicked") && !told.contains("NaN"), "{told}");
    (output.status.code().unwrap(), told)
}

/// Writes an encoder file for 16 px: untrained, or with the same features for every image.
fn encoder(lab: &Lab, name: &str, seed: u64, constant: bool) {
    let mut rng = keyed(seed, ssl_backdoor_model::purpose::INIT, 0, 0, 0);
    let mut net = NET.init(&mut rng, &Device::flex()).valid();
    if constant {
        net = common::constant(net);
    }
    save_encoder(&net, &encoder_header(NET, 16), &lab.path(name)).unwrap();
}

/// A folder of `count` images of 20 × 16 pixels in a few colours.
fn folder(lab: &Lab, name: &str, count: u32) {
    let path = lab.path(name);
    std::fs::create_dir_all(path.join("inner")).unwrap();
    for i in 0..count {
        let picture = RgbImage::from_fn(20, 16, |x, y| {
            let hue = (i % 5) * 50;
            Rgb([hue as u8, (x * 12 + i * 3) as u8, (y * (i % 7) * 2) as u8])
        });
        let file = if i % 2 == 0 { format!("{i}.png") } else { format!("inner/{i}.png") };
        picture.save(path.join(file)).unwrap();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A quick classifier.
const QUICK: [&str; 4] = ["--networks", "1", "--steps", "40"];
