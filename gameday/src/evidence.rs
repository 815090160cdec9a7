//! The evidence of what was played, kept for people to look at.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::theatre::Theatre;

/// Writes every object of the evidence bucket of the enforcing stack below a folder, under its key. Answers how many.
///
/// # Errors
/// Where the bucket cannot be read, a file cannot be written, or a key is no path below the folder.
pub async fn keep(theatre: &Theatre, folder: &Path) -> Result<usize> {
    let (stack, _) = theatre.enforcing().await?;
    let (s3, bucket) = (&theatre.aws.s3, stack.output("EvidenceBucketName")?);
    let mut pages = s3.list_objects_v2().bucket(bucket).into_paginator().send();
    let mut kept = 0;
    while let Some(page) = pages.next().await {
        for key in page?.contents().iter().filter_map(|object| object.key()) {
            if key.split('/').any(|name| name.is_empty() || name.starts_with('.')) {
                bail!("`{key}` is no path below a folder");
            }
            let path = folder.join(key);
            let place = path.parent().with_context(|| format!("`{key}` is no path"))?;
            std::fs::create_dir_all(place).with_context(|| format!("cannot make `{}`", place.display()))?;
            let object = s3.get_object().bucket(bucket).key(key).send().await?;
            let bytes = object.body.collect().await?.into_bytes();
            std::fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
            kept += 1;
        }
    }
    Ok(kept)
}
