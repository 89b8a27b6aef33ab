//! What is served without `--config`.

use super::{Config, Media};

/// How messages name it.
pub(crate) const NAME: &str = "the embedded default";

/// Where all of it lies.
const DIRECTORY: &str = "./holdfast-data";

/// docs/surface.md, "Embedded default".
pub(crate) const TEXT: &str = r#"
[system]
id        = "HOLDFAST-1"
state_dir = "./holdfast-data"

[iscsi]
portals = ["127.0.0.1:3260"]

[admin]
http = "127.0.0.1:3280"

[generations]
directory = "./holdfast-data/generations"

[[volume]]
number = 1
name   = "prod"
class  = "standard"
size   = "1GiB"
file   = "./holdfast-data/prod.img"

[[volume]]
number = 2
name   = "bcv1"
class  = "mirror"
size   = "1GiB"
file   = "./holdfast-data/bcv1.img"

[[volume]]
number = 3
name   = "bcv2"
class  = "mirror"
size   = "1GiB"
file   = "./holdfast-data/bcv2.img"

[[target]]
iqn  = "iqn.2026-11.io.holdfast:default"
luns = [{ lun = 0, volume = 1 }, { lun = 1, volume = 2 }, { lun = 2, volume = 3 }]
"#;

/// Lets images and generations lie in the state directory, wherever that was put: one directory is all that the default uses.
pub(super) fn gathered(mut config: Config) -> Config {
    let state_dir = &config.system.state_dir;
    let files = config
        .volumes
        .values_mut()
        .filter_map(|volume| match &mut volume.media {
            Media::File(path) => Some(path),
            Media::Memory => None,
        });
    for path in files.chain(&mut config.generations.directory) {
        if let Ok(name) = path.strip_prefix(DIRECTORY) {
            *path = state_dir.join(name);
        }
    }
    config
}
