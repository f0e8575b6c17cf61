//! Records the commit that a release is built from: it appears beside every figure. Development builds omit it,
//! because otherwise each commit would rebuild them.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = if release { packaged().or_else(checked_out) } else { None };
    let shown = commit.as_deref().unwrap_or("unknown");
    println!(
        "cargo::rustc-env=SSL_BACKDOOR_VERSION={} (commit {shown})",
        env!("CARGO_PKG_VERSION")
    );
    println!("cargo::rustc-env=SSL_BACKDOOR_COMMIT={}", commit.unwrap_or_default());
}

/// The commit that `cargo publish` recorded.
fn packaged() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let hash = text.split("\"sha1\": \"").nth(1)?.split('"').next()?;
    Some(hash.to_owned())
}

/// The commit of this working tree, with `-dirty` if the built files were changed since.
fn checked_out() -> Option<String> {
    let built = ["crates", "templates", "Cargo.toml", "Cargo.lock", "build.rs"];
    // Inside another project's repository, this is not a checkout of ours.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(".").canonicalize().ok()? {
        return None;
    }
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    built
        .into_iter()
        .chain([log.as_str()])
        .for_each(|path| println!("cargo::rerun-if-changed={path}"));
    let hash = git(&["rev-parse", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &built[..]].concat())?;
    Some(if changed.is_empty() { hash } else { format!("{hash}-dirty") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
