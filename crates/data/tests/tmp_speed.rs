#![allow(clippy::unwrap_used)]
use ssl_backdoor_data::*;
use ssl_backdoor_trigger::PoisonConfig;
use std::time::Instant;
#[test]
fn speed() {
    let f = tempfile::tempdir().unwrap();
    for p in ["train/a", "val/a"] {
        std::fs::create_dir_all(f.path().join(p)).unwrap();
        for i in 0..40u32 {
            image::RgbImage::from_fn(500, 375, |x, y| {
                image::Rgb([
                    (x * 7 + y * 3 + i) as u8 / 2,
                    (x * y / 50) as u8,
                    ((x / 20 * 37 + y / 20 * 91 + i) % 256) as u8,
                ])
            })
            .save(f.path().join(p).join(format!("{i}.jpg")))
            .unwrap();
        }
    }
    let data: DataConfig = serde_json::from_value(
        serde_json::json!({"kind":"folder","path":f.path(),"size":224,"eval":"all"}),
    )
    .unwrap();
    for recompress in [false, true, false, true] {
        let poison: PoisonConfig = serde_json::from_value(serde_json::json!({"target":0,"rate":1,"recompress":recompress,"trigger":{"kind":"htba","id":10,"width":50}})).unwrap();
        let splits = data.load(&|_, _, _| {}).unwrap();
        let attack = splits.attack(&poison, 1).unwrap();
        let p = Poisoned::new(splits.clone(), attack.clone());
        let v = Patched::new(splits.prepared(&splits.eval), &splits.eval, &attack);
        let t = Instant::now();
        for i in 0..40 {
            p.get(i).unwrap();
        }
        let a = t.elapsed().as_secs_f64() / 40.0 * 1e3;
        let t = Instant::now();
        for i in 0..40 {
            v.get(i).unwrap();
        }
        println!(
            "recompress {recompress}: train {a:.2} ms, val {:.2} ms an image",
            t.elapsed().as_secs_f64() / 40.0 * 1e3
        );
    }
}
