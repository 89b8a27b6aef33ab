//! `backup`: an image at the far site (Fig. 4), with hooks that freeze the application and thaw it again.

use scsi_model::control::{Flags, OutVerb, VolumeNumber, VolumePair};

use super::{hooks, pairs};
use crate::{
    args::{BackupArgs, FarVolume, VolumeName},
    failure::Failure,
    output::Output,
    system::System,
};

pub(super) fn backup(system: &mut System, output: Output, args: &BackupArgs) -> Result<(), Failure> {
    let number = match &args.to {
        FarVolume::There(_, number) | FarVolume::Here(VolumeName::Number(number)) => *number,
        FarVolume::Here(name) => {
            let text = format!("--to takes the number of a volume of the paired system, not {name}");
            return Err(Failure::Usage(text));
        }
    };
    let member = VolumePair {
        primary: system.number(&args.primary)?,
        mirror: Some(VolumeNumber(number)),
    };
    let flags = Flags {
        remote: true,
        ..Flags::default()
    };
    if args.how.dry_run {
        return pairs::image(system, output, OutVerb::Split, flags, member, args.how);
    }
    hooks::run("--before", args.before.as_deref())?;
    let taken = pairs::image(system, output, OutVerb::Split, flags, member, args.how);
    // Whatever came of it: who was frozen is thawed, and of two failures the first counts.
    let thawed = hooks::run("--after", args.after.as_deref());
    taken.and(thawed)
}
