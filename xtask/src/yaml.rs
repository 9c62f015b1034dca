//! The one place that knows how YAML is written.

use anyhow::Result;
use serde::Serialize;

/// One document, without the line that begins it.
pub fn document(value: &impl Serialize) -> Result<String> {
    Ok(serde_yaml_ng::to_string(value)?)
}
