//! Training as the references do it: learning rates, last batches, and messages about refused values.

use serde_json::Value;

use crate::sets::Site;

/// The MAE of these tests: no learning rate, so that the default applies.
const MAE: &str = "--set pretrain.method={kind=\"mae\",decoder_dim=8,decoder_depth=1,decoder_heads=2} \
    --set pretrain.encoder={kind=\"vit\",dim=8,depth=1,heads=2,patch=8} \
    --set pretrain.schedule={kind=\"cosine-per-epoch\"}";

fn log(site: &Site, file: &str) -> Vec<Value> {
    site.read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The learning rate of the first epoch, which the schedule does not change.
fn lr(site: &Site, file: &str) -> f64 {
    log(site, file)[0]["lr"].as_f64().unwrap()
}

fn near(found: f64, wanted: f64) {
    assert!((found / wanted - 1.0).abs() < 1e-9, "{found} instead of {wanted}");
}

#[test]
fn review_1_03_maes_rate_follows_the_batch_on_every_path() {
    let site = Site::new();
    let data = site.folder("set", &["cat", "dog"], [16, 6]);
    let data = format!("data = {{ kind = \"folder\", path = {data:?}, size = 16 }}");
    site.config("t.toml", &data);
    let controls =
        "--set defend={kind=\"compress\",clean=[0.5],epochs=1,batch=4,controls=[\"scratch\"]}";
    // The file's batch of 8, and 4 in the controls of the defence.
    site.run(&format!("run t.toml --out a {MAE} {controls} --until defend")).good();
    near(lr(&site, "a/clean/metrics.jsonl"), 1.5e-4 * 8.0 / 256.0);
    near(lr(&site, "a/scratch-0.5/metrics.jsonl"), 1.5e-4 * 4.0 / 256.0);
    // Another batch, and another base rate.
    let sets = "--set pretrain.batch=16 --set pretrain.base_lr=1e-3";
    site.run(&format!("run t.toml --out b {MAE} {sets} --until twin")).good();
    near(lr(&site, "b/clean/metrics.jsonl"), 1e-3 * 16.0 / 256.0);
    // The config in the run folder gives the same run, to the byte.
    let config = site.read("b/config.toml");
    assert!(config.contains("base_lr = 0.001") && !config.contains("\nlr = 0.001"), "{config}");
    site.run("run b/config.toml --out c --until twin").good();
    for file in ["metrics.jsonl", "encoder.safetensors"] {
        let bytes = ["b", "c"].map(|run| std::fs::read(site.path(format!("{run}/clean/{file}"))));
        let [b, c] = bytes.map(Result::unwrap);
        assert!(b == c, "{file} differs");
    }
    // A fixed rate does not follow the batch, and excludes a base rate.
    site.run(&format!("run t.toml --out d {MAE} --set pretrain.lr=1e-3 --until twin")).good();
    near(lr(&site, "d/clean/metrics.jsonl"), 1e-3);
    site.run(&format!("run t.toml --out e {MAE} --set pretrain.lr=1e-3 {sets}"))
        .bad(2, &["pretrain.lr = 0.001 and base_lr = 0.001"]);
}

#[test]
fn review_1_09_rotnet_trains_on_the_images_left_over() {
    let site = Site::new();
    let data = site.folder("set", &["cat", "dog"], [10, 8]);
    let data = format!("data = {{ kind = \"folder\", path = {data:?}, size = 16 }}");
    site.config("t.toml", &data);
    let rotnet = "--set pretrain.method={kind=\"rotnet\"} --set pretrain.epochs=2";
    // 20 images in batches of 8: three steps in an epoch; two if the last batch is dropped.
    for (more, steps) in [("", 3), ("--set pretrain.drop_last=true", 2)] {
        site.run(&format!("run t.toml --out r{steps} {rotnet} {more} --until probe")).good();
        let ends = log(&site, &format!("r{steps}/backdoored/metrics.jsonl"));
        let ends: Vec<u64> = ends.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(ends, [steps, 2 * steps]);
        assert_eq!(site.json(format!("r{steps}/scores.json"))["steps"], 2 * steps);
    }
    site.run("run t.toml --set pretrain.drop_last=false")
        .bad(2, &["pretrain.drop_last = false", "rotnet"]);
}

#[test]
fn review_2_03_a_refused_value_names_no_number_that_nobody_gave() {
    let site = Site::new();
    site.config("t.toml", "data = { kind = \"shapes\", size = 16, per_class = 4 }");
    let defend = "--set defend={kind=\"compress\",clean=[0.5],batch=1}";
    for (sets, words) in [
        ("--set pretrain.batch=1", ["pretrain.batch = 1", "2 to 65,536"]),
        (defend, ["defend.batch = 1", "the smallest clean part"]),
    ] {
        let said = site.run(&format!("run t.toml --set poison.target=3 {sets}"));
        assert!(!said.stderr.contains("84467440737"), "{}", said.stderr);
        said.bad(2, &words);
    }
    // Once the data is read, the number of images is known.
    site.run(
        "run t.toml --set poison.target=3 --set pretrain.batch=64 --set pretrain.method.queue=64",
    )
    .bad(2, &["pretrain.batch = 64", "at most the 40 training images"]);
}
