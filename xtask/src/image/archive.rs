//! An OCI image layout in one tar file: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.
//!
//! The same files give the same bytes: nothing in it tells when or where it was packed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Root, Start};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn write(out: &Path, name: &str, root: &Root, start: &Start) -> Result<()> {
    let archive = layout(name, root, start)?;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, &archive).with_context(|| format!("writing {}", out.display()))?;
    println!("{name}: {} ({} MB)", out.display(), archive.len() >> 20);
    Ok(())
}

fn layout(name: &str, root: &Root, start: &Start) -> Result<Vec<u8>> {
    let mut blobs = Blobs(Builder::new(Vec::new()));
    let layer = layer(root)?;
    let diff = digest(&layer);
    let layer = blobs.put(LAYER, layer)?;
    let config = blobs.json(
        CONFIG,
        &json!({
            "architecture": architecture(), "os": "linux", "config": start,
            "rootfs": { "type": "layers", "diff_ids": [diff] },
        }),
    )?;
    let mut manifest =
        blobs.json(MANIFEST, &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] }))?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    // The first is what containerd reads, the second what others do.
    manifest["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
    manifest["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    file(&mut blobs.0, "index.json", &serde_json::to_vec(&index)?, 0o644, 0)?;
    file(&mut blobs.0, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644, 0)?;
    Ok(blobs.0.into_inner()?)
}

struct Blobs(Builder<Vec<u8>>);

impl Blobs {
    /// Answers the descriptor of the blob.
    fn put(&mut self, media_type: &str, content: Vec<u8>) -> Result<Value> {
        let digest = digest(&content);
        file(&mut self.0, &format!("blobs/{}", digest.replace(':', "/")), &content, 0o644, 0)?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": content.len() }))
    }

    fn json(&mut self, media_type: &str, value: &impl Serialize) -> Result<Value> {
        self.put(media_type, serde_json::to_vec(value)?)
    }
}

fn layer(root: &Root) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (path, entry) in &root.entries {
        match &entry.content {
            Some(content) => file(&mut tar, path, content, entry.mode, entry.owner)?,
            None => {
                let mut header = header(entry.mode, entry.owner);
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, format!("{path}/"), &[][..])?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

fn file(tar: &mut Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32, owner: u32) -> Result<()> {
    let mut header = header(mode, owner);
    header.set_size(content.len() as u64);
    Ok(tar.append_data(&mut header, path, content)?)
}

fn header(mode: u32, owner: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// In Go's words, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn unpack(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        entries.collect()
    }

    #[test]
    fn every_blob_is_where_its_descriptor_says() {
        let mut root = Root::default();
        root.text("etc/passwd", "nobody");
        root.folder("tmp", 0o1777, 0);
        let start = Start { user: "1:1".into(), ..Start::default() };
        let packed = layout("r.example/a/b:1.2", &root, &start).unwrap();
        assert_eq!(packed, layout("r.example/a/b:1.2", &root, &start).unwrap(), "the same files give the same bytes");

        let files = unpack(&packed);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let content = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(super::digest(content), digest);
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let descriptor = &index["manifests"][0];
        assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "r.example/a/b:1.2");
        assert_eq!(descriptor["annotations"]["org.opencontainers.image.ref.name"], "1.2");
        let manifest: Value = serde_json::from_slice(&blob(descriptor)).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "1:1");
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], super::digest(&layer));
        let layer = unpack(&layer);
        assert_eq!(layer["etc/passwd"], b"nobody");
        assert!(layer.contains_key("tmp/") && layer.contains_key("etc/"), "{:?}", layer.keys());
    }
}
