//! The composition root: configuration in, use cases out.

use anyhow::Context;

use crate::{
    api::Api,
    clock::Clock,
    config::Config,
    domain::{
        db::Db,
        keys::{Key, Keys},
    },
};

/// Builds the use cases over the configured database.
///
/// # Errors
/// Keys that are none.
pub fn build(config: &Config, clock: Clock) -> anyhow::Result<Api> {
    let keys = config.secrets.keys.iter().map(|key| {
        let bytes = crate::config::key_bytes(&key.key).context("secrets.keys: each key is 32 bytes in base64")?;
        Ok(Key { id: key.id.clone(), bytes })
    });
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    let db = Db::new(&config.database.url, config.database.pool_size);
    Ok(Api::new(db, clock, Keys::new(keys)))
}
