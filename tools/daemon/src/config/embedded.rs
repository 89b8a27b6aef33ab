//! What is served without `--config`.

/// How messages name it.
pub(crate) const NAME: &str = "the embedded default";

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
