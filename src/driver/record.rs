//! The core with its recording, where one is asked for.

use super::setup::StartError;
use crate::config::Config;
use crate::decide::io::Now;
use crate::decide::life::{Boot, Node, Settings};
use crate::recording::format::Head;
use crate::recording::writer::Recorder;
use std::path::PathBuf;

/// The core, and its recording. A path that cannot be written is a mistake of the configuration:
/// said at once.
pub(super) fn core(
    config: &Config,
    boot: Boot,
    settings: Settings,
    began: Now,
) -> Result<(Node, Option<Recorder>), StartError> {
    let begin = |path: &PathBuf| {
        let at = path.display().to_string();
        Recorder::start(path, &Head::new(&boot, &settings, began))
            .map_err(|error| StartError::Record { path: at, error })
    };
    let recorder = config.local.record.as_ref().map(begin).transpose()?;
    Ok((Node::new(boot, settings, began), recorder))
}
