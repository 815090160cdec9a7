//! Deployment packages made in memory.

use std::io::{Cursor, Write as _};

use anyhow::Result;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// A ZIP archive that holds one file.
///
/// # Errors
/// None that can be met in memory.
pub fn of_one_file(name: &str, content: &str) -> Result<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(name, options)?;
    zip.write_all(content.as_bytes())?;
    Ok(zip.finish()?.into_inner())
}
